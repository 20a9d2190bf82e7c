package main

import (
	"encoding/binary"
	"io"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	perfProtocol    protocol.ID = "/perf/1.0.0"
	pingProtocol    protocol.ID = "/ipfs/ping/1.0.0"
	requestProtocol protocol.ID = "/bench/req/1"

	chunk       = 64 << 10
	pingSize    = 32
	requestSize = 1 + 64
)

// servePerf reads how much is wanted, then to the end, and writes as much.
func servePerf(s network.Stream) {
	err := func() error {
		var wanted uint64
		if err := binary.Read(s, binary.BigEndian, &wanted); err != nil {
			return err
		}
		buffer := make([]byte, chunk)
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, buffer); err != nil {
			return err
		}
		for wanted > 0 {
			n, err := s.Write(buffer[:min(wanted, chunk)])
			if err != nil {
				return err // the client has seen enough
			}
			wanted -= uint64(n)
		}
		return nil
	}()
	if err != nil {
		s.Reset()
		return
	}
	s.Close()
}

func serveRequest(s network.Stream) {
	request := make([]byte, requestSize)
	if _, err := io.ReadFull(s, request); err != nil {
		s.Reset()
		return
	}
	if _, err := s.Write(request); err != nil {
		s.Reset()
		return
	}
	s.CloseWrite()
	io.Copy(io.Discard, struct{ io.Reader }{s})
	s.Close()
}
