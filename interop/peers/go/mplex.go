package main

import (
	"context"
	"errors"
	"net"

	"github.com/libp2p/go-libp2p/core/network"
	mplex "github.com/libp2p/go-mplex"
)

// go-libp2p dropped mplex, and the adapter of then no longer fits its interfaces. The muxer itself does, through this
// one. mplex knows no error codes: they are lost.
const mplexID = "/mplex/6.7.0"

type mplexTransport struct{}

func (mplexTransport) NewConn(c net.Conn, isServer bool, scope network.PeerScope) (network.MuxedConn, error) {
	m, err := mplex.NewMultiplex(c, isServer, scope)
	if err != nil {
		return nil, err
	}
	return mplexConn{m}, nil
}

type mplexConn struct{ *mplex.Multiplex }

func (c mplexConn) As(any) bool { return false }

func (c mplexConn) CloseWithError(network.ConnErrorCode) error { return c.Close() }

func (c mplexConn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	s, err := c.NewStream(ctx)
	if err != nil {
		return nil, err
	}
	return mplexStream{s}, nil
}

func (c mplexConn) AcceptStream() (network.MuxedStream, error) {
	s, err := c.Accept()
	if err != nil {
		return nil, err
	}
	return mplexStream{s}, nil
}

type mplexStream struct{ *mplex.Stream }

func (s mplexStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	return n, mplexError(err)
}

func (s mplexStream) Write(b []byte) (int, error) {
	n, err := s.Stream.Write(b)
	return n, mplexError(err)
}

func (s mplexStream) ResetWithError(network.StreamErrorCode) error { return s.Reset() }

func mplexError(err error) error {
	if errors.Is(err, mplex.ErrStreamReset) {
		return network.ErrReset
	}
	return err
}
