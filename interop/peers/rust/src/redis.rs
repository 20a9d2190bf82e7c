//! As much of a Redis client as the contract needs: one command at a time (RESP, version 2).

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
};

use crate::Result;

const RETRY: Duration = Duration::from_millis(200);

pub struct Redis(BufStream<TcpStream>);

impl Redis {
    /// Tries until the server is there.
    pub async fn connect(address: &str) -> Self {
        loop {
            if let Ok(stream) = TcpStream::connect(address).await {
                return Self(BufStream::new(stream));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The strings of the reply: none for nothing, several for an array.
    pub async fn command(&mut self, words: &[&str]) -> Result<Vec<String>> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.write_all(request.as_bytes()).await?;
        self.0.flush().await?;
        let (mut texts, mut left) = (Vec::new(), 1);
        while left > 0 {
            let line = self.line().await?;
            let (kind, rest) = line.split_at_checked(1).ok_or("redis has hung up")?;
            match (kind, rest) {
                ("+" | ":", _) => texts.push(rest.to_owned()),
                ("$" | "*", "-1") => {}
                ("$", _) => texts.push(self.line().await?), // no text here has a line break in it
                ("*", _) => left += rest.parse::<usize>()?,
                _ => return Err(format!("redis: {line}").into()),
            }
            left -= 1;
        }
        Ok(texts)
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        Ok(line.trim_end_matches("\r\n").to_owned())
    }
}
