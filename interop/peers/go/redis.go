package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const redisRetry = 200 * time.Millisecond

// redis is as much of a client as the contract needs: one command at a time (RESP, version 2).
type redis struct {
	conn   net.Conn
	reader *bufio.Reader
}

// connectRedis tries until the server is there.
func connectRedis(ctx context.Context, addr string) (*redis, error) {
	for {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			deadline, _ := ctx.Deadline()
			return &redis{conn, bufio.NewReader(conn)}, conn.SetDeadline(deadline)
		}
		select {
		case <-time.After(redisRetry):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// command returns the strings of the reply: none for nothing, several for an array.
func (r *redis) command(words ...string) ([]string, error) {
	var request strings.Builder
	fmt.Fprintf(&request, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(r.conn, request.String()); err != nil {
		return nil, err
	}
	return r.reply()
}

func (r *redis) reply() ([]string, error) {
	line, err := r.line()
	if err != nil {
		return nil, err
	}
	switch kind, rest := line[0], line[1:]; kind {
	case '+', ':':
		return []string{rest}, nil
	case '-':
		return nil, errors.New("redis: " + rest)
	case '$':
		if rest == "-1" {
			return nil, nil
		}
		text, err := r.line() // no text here has a line break in it
		return []string{text}, err
	case '*':
		count, err := strconv.Atoi(rest)
		var all []string
		for ; count > 0 && err == nil; count-- {
			var item []string
			item, err = r.reply()
			all = append(all, item...)
		}
		return all, err
	}
	return nil, fmt.Errorf("redis: %q is no reply", line)
}

func (r *redis) line() (string, error) {
	line, err := r.reader.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", errors.New("redis: an empty line")
	}
	return line, nil
}
