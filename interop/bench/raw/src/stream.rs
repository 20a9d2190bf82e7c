//! A stream of any kind. Its first byte says which protocol it is for.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bench_peer::{PROTOCOLS, serve};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

pub(crate) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Quic(quinn::SendStream, quinn::RecvStream),
}

impl Stream {
    /// Says which protocol this is for.
    pub(crate) async fn name(&mut self, protocol: &str) -> io::Result<()> {
        let index = PROTOCOLS.iter().position(|one| *one == protocol).ok_or(io::ErrorKind::Unsupported)?;
        self.write_all(&[u8::try_from(index).unwrap_or_default()]).await
    }

    /// Reads which protocol it is for, and serves it.
    pub(crate) async fn serve(mut self) -> io::Result<()> {
        let protocol = PROTOCOLS.get(usize::from(self.read_u8().await?)).ok_or(io::ErrorKind::InvalidData)?;
        serve(protocol, self).await
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Quic(_, receive) => AsyncRead::poll_read(Pin::new(receive), cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Quic(send, _) => AsyncWrite::poll_write(Pin::new(send), cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Quic(send, _) => Pin::new(send).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Quic(send, _) => Pin::new(send).poll_shutdown(cx),
        }
    }
}
