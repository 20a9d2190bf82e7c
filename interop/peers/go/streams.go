package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	echoProtocol     protocol.ID = "/peerage/echo/1"
	callbackProtocol protocol.ID = "/peerage/callback/1"
	pingBackProtocol protocol.ID = "/peerage/ping-back/1"
	changeProtocol   protocol.ID = "/peerage/change/1"
	changedProtocol  protocol.ID = "/peerage/changed/1"
	seenProtocol     protocol.ID = "/peerage/seen/1"

	chunk         = 64 << 10
	callbackBytes = 64 << 10
	manyStreams   = 100
	manyBytes     = 1 << 10
)

// serveEcho writes back what it reads, chunk by chunk: a slow reader at the other end slows us down.
func serveEcho(s network.Stream) {
	_, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{s}, make([]byte, chunk))
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		s.Reset()
		return
	}
	s.Close()
}

// serveAsk does what it was asked for, and says how that went.
func serveAsk(do func(ctx context.Context, remote peer.ID) error) network.StreamHandler {
	return func(s network.Stream) {
		ctx, cancel := context.WithTimeout(context.Background(), stepDeadline)
		defer cancel()
		verdict := "ok\n"
		if err := do(ctx, s.Conn().RemotePeer()); err != nil {
			verdict = fmt.Sprintf("error: %v\n", err)
		}
		if _, err := io.WriteString(s, verdict); err != nil {
			fmt.Fprintln(os.Stderr, s.Protocol(), err)
			s.Reset()
			return
		}
		s.Close()
	}
}

// ask asks the listener to do something, and reads how that went.
func ask(ctx context.Context, h host.Host, remote peer.ID, id protocol.ID) error {
	s, err := openStream(ctx, h, remote, id)
	if err != nil {
		return err
	}
	// There is nothing to say. Also, go negotiates lazily: without this nothing would be sent at all
	// until the first read.
	if err := s.CloseWrite(); err != nil {
		s.Reset()
		return err
	}
	text, err := io.ReadAll(io.LimitReader(s, chunk))
	if err != nil {
		s.Reset()
		return err
	}
	s.Close()
	if string(text) != "ok\n" {
		return fmt.Errorf("the listener says %q", text)
	}
	return nil
}

// change makes identify push: from now on we speak one protocol more.
func change(h host.Host) {
	h.SetStreamHandler(changedProtocol, func(s network.Stream) { s.Reset() })
}

// awaitChange waits until identify has told that the remote speaks one protocol more.
func awaitChange(ctx context.Context, h host.Host, remote peer.ID) error {
	for {
		if known, err := h.Peerstore().SupportsProtocols(remote, changedProtocol); err == nil && len(known) > 0 {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("no push came: %w", ctx.Err())
		}
	}
}

// many does as many echoes at once.
func many(ctx context.Context, h host.Host, remote peer.ID) (fields, error) {
	results := make(chan error, manyStreams)
	for range manyStreams {
		go func() { results <- echo(ctx, h, remote, manyBytes) }()
	}
	var errs []error
	for range manyStreams {
		if err := <-results; err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%d of %d failed, the first: %w", len(errs), manyStreams, errs[0])
	}
	return fields{"streams": manyStreams}, nil
}

// echo sends the pattern, reads it back meanwhile, and compares. It must do both at once: more than the
// two windows hold would otherwise block both ends for ever.
func echo(ctx context.Context, h host.Host, remote peer.ID, size int) error {
	s, err := openStream(ctx, h, remote, echoProtocol)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(struct{ io.Writer }{s}, &pattern{left: size})
		if err == nil {
			err = s.CloseWrite()
		}
		sent <- err
	}()
	if err := compare(s, size); err != nil {
		s.Reset() // also ends the sender
		<-sent
		return err
	}
	if err := <-sent; err != nil {
		s.Reset()
		return err
	}
	return s.Close()
}

// compare reads to the end, and wants exactly size bytes of the pattern.
func compare(r io.Reader, size int) error {
	want := &pattern{left: size}
	got, expected := make([]byte, chunk), make([]byte, chunk)
	for total := 0; ; {
		n, err := r.Read(got)
		if n > 0 {
			if m, _ := io.ReadFull(want, expected[:n]); m < n {
				return fmt.Errorf("more than the %d bytes sent came back", size)
			}
			if !bytes.Equal(got[:n], expected[:n]) {
				return fmt.Errorf("wrong bytes within the %d after offset %d", n, total)
			}
			total += n
		}
		if err == io.EOF {
			if total != size {
				return fmt.Errorf("%d of %d bytes came back", total, size)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", total, size, err)
		}
	}
}

// pattern is a reader of the test pattern: byte i is (i*31 + 7) mod 251.
type pattern struct{ at, left int }

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), p.left)
	for i := range n {
		b[i] = byte(((p.at+i)*31 + 7) % 251)
	}
	p.at += n
	p.left -= n
	return n, nil
}
