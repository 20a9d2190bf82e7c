package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/libp2p/go-libp2p"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	webrtc "github.com/libp2p/go-libp2p/p2p/transport/webrtc"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

// transport makes one transport, and says where it listens unless told otherwise.
type transport struct {
	listen string
	new    func(options) (libp2p.Option, error)
}

// What the words of the command line mean.
var transports = map[string]transport{
	"tcp":           {"/ip4/127.0.0.1/tcp/0", plain(tcp.NewTCPTransport)},
	"ws":            {"/ip4/127.0.0.1/tcp/0/ws", plain(websocket.New)},
	"wss":           {"/ip4/127.0.0.1/tcp/0/tls/ws", wss},
	"quic-v1":       {"/ip4/127.0.0.1/udp/0/quic-v1", plain(quic.NewTransport)},
	"webrtc-direct": {"/ip4/127.0.0.1/udp/0/webrtc-direct", plain(webrtc.New)},
}

func plain(constructor any) func(options) (libp2p.Option, error) {
	return func(options) (libp2p.Option, error) { return libp2p.Transport(constructor), nil }
}

// wss shows the certificate it was given, and trusts nobody but the authority it was given, unless it shall trust everybody.
func wss(opts options) (libp2p.Option, error) {
	server, client := &tls.Config{}, &tls.Config{RootCAs: x509.NewCertPool(), InsecureSkipVerify: opts.anyCert}
	if opts.tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(opts.tlsCert, opts.tlsKey)
		if err != nil {
			return nil, err
		}
		server.Certificates = []tls.Certificate{pair}
	}
	if opts.tlsCA != "" {
		pem, err := os.ReadFile(opts.tlsCA)
		if err != nil {
			return nil, err
		}
		if !client.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: there is no certificate in it", opts.tlsCA)
		}
	}
	return libp2p.Transport(websocket.New, websocket.WithTLSConfig(server), websocket.WithTLSClientConfig(client)), nil
}
