package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	echoProtocol     protocol.ID = "/peerage/echo/1"
	callbackProtocol protocol.ID = "/peerage/callback/1"

	chunk         = 64 << 10
	callbackBytes = 64 << 10
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

// serveCallback echoes towards the dialer on a stream of our own, and reports on the dialer's.
func serveCallback(h host.Host) network.StreamHandler {
	return func(s network.Stream) {
		ctx, cancel := context.WithTimeout(context.Background(), stepDeadline)
		defer cancel()
		verdict := "ok\n"
		if err := echo(ctx, h, s.Conn().RemotePeer(), callbackBytes); err != nil {
			verdict = fmt.Sprintf("error: %v\n", err)
		}
		if _, err := io.WriteString(s, verdict); err != nil {
			fmt.Fprintln(os.Stderr, "callback:", err)
			s.Reset()
			return
		}
		s.Close()
	}
}

// callback asks the listener to echo towards us, and reads how that went.
func callback(ctx context.Context, h host.Host, remote peer.ID) error {
	s, err := openStream(ctx, h, remote, callbackProtocol)
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
