//! Very many streams over one connection.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Config,
    suite::{pair_with, pattern, read_to_end, settle},
};

#[tokio::test]
async fn ten_thousand_streams_live_at_once_and_leave_nothing() {
    const STREAMS: usize = 10_000;
    let config = Config { max_inbound_streams: STREAMS, max_outbound_streams: STREAMS, ..Config::default() };
    let (a, b) = pair_with(config);
    let accepting = b.connection.clone();
    let accept = tokio::spawn(async move {
        let mut all = Vec::new();
        for _ in 0..STREAMS {
            let mut stream = accepting.accept().await.unwrap();
            let mut hello = [0; 8];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(&hello).await.unwrap();
            all.push(stream);
        }
        all
    });
    let mut ours = Vec::new();
    for i in 0..STREAMS as u64 {
        let mut stream = a.connection.open().await.unwrap();
        stream.write_all(&i.to_be_bytes()).await.unwrap();
        ours.push(stream);
    }
    let theirs = accept.await.unwrap();
    assert_eq!((a.link.outbound(), b.link.inbound()), (STREAMS, STREAMS));
    for (i, stream) in ours.iter_mut().enumerate() {
        let mut hello = [0; 8];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(u64::from_be_bytes(hello), i as u64);
        stream.close_write().await.unwrap();
    }
    for mut stream in theirs {
        assert_eq!(read_to_end(&mut stream).await.unwrap(), b"");
        stream.close_write().await.unwrap();
    }
    for mut stream in ours {
        assert_eq!(read_to_end(&mut stream).await.unwrap(), b"");
    }
    settle(&a, &b).await;
    assert_eq!((a.link.entries(), b.link.entries()), (0, 0));
}

/// Callers wait for places in turn; none is forgotten.
#[tokio::test]
async fn a_crowd_that_opens_at_once_all_come_through() {
    let config = Config { max_outbound_streams: 8, ..Config::default() };
    let (a, b) = pair_with(config);
    let accepting = b.connection.clone();
    tokio::spawn(async move {
        while let Ok(mut stream) = accepting.accept().await {
            tokio::spawn(async move {
                let all = read_to_end(&mut stream).await?;
                stream.write_all(&all).await?;
                stream.close_write().await
            });
        }
    });
    let mut crowd = Vec::new();
    for i in 0..500usize {
        let connection = a.connection.clone();
        crowd.push(tokio::spawn(async move {
            let mut stream = connection.open().await.unwrap();
            stream.write_all(&pattern(i)).await.unwrap();
            stream.close_write().await.unwrap();
            assert_eq!(read_to_end(&mut stream).await.unwrap(), pattern(i));
        }));
    }
    for one in crowd {
        one.await.unwrap();
    }
}
