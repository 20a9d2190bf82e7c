package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// The perf protocol, https://github.com/libp2p/specs/blob/master/perf/perf.md. go-libp2p brings none.
const (
	perfProtocol protocol.ID = "/perf/1.0.0"
	perfBytes                = 10 << 20
)

// servePerf reads how much is wanted, then to the end, and writes as much.
func servePerf(s network.Stream) {
	err := func() error {
		var wanted uint64
		if err := binary.Read(s, binary.BigEndian, &wanted); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, make([]byte, chunk)); err != nil {
			return err
		}
		return writeZeros(s, wanted)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "perf:", err)
		s.Reset()
		return
	}
	s.Close()
}

// perf uploads, half-closes and downloads, the same amount each way.
func perf(ctx context.Context, h host.Host, remote peer.ID) (fields, error) {
	s, err := openStream(ctx, h, remote, perfProtocol)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	started := time.Now()
	if err := binary.Write(s, binary.BigEndian, uint64(perfBytes)); err != nil {
		return nil, err
	}
	if err := writeZeros(s, perfBytes); err != nil {
		return nil, fmt.Errorf("uploading: %w", err)
	}
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	// Its first byte says that the other side has all.
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		return nil, fmt.Errorf("nothing came down: %w", err)
	}
	uploaded := time.Now()
	more, err := io.Copy(io.Discard, struct{ io.Reader }{s})
	if err != nil {
		return nil, fmt.Errorf("downloading, after %d bytes: %w", more+1, err)
	}
	if more+1 != perfBytes {
		return nil, fmt.Errorf("%d of %d bytes came down", more+1, perfBytes)
	}
	return fields{
		"bytes": perfBytes, "up_ms": uploaded.Sub(started).Milliseconds(), "down_ms": time.Since(uploaded).Milliseconds(),
	}, nil
}

func writeZeros(w io.Writer, size uint64) error {
	zeros := make([]byte, chunk)
	for size > 0 {
		n, err := w.Write(zeros[:min(size, chunk)])
		if err != nil {
			return err
		}
		size -= uint64(n)
	}
	return nil
}
