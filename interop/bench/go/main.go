// A benchmark peer of Peerage on go-libp2p. See ../README.md for the command line and what is printed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

type options struct {
	address, measure, transport, host string
	workers, write, connections int
	duration                    time.Duration
}

// unsupported is what the library does not have: no failure.
type unsupported struct{ what string }

func (u unsupported) Error() string { return u.what }

func main() {
	opts, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(2)
	}
	runtime.GOMAXPROCS(opts.workers)
	run := serve
	if opts.measure != "" {
		run = measure
	}
	var what unsupported
	if err := run(opts); errors.As(err, &what) {
		say(fields{"event": "unsupported", "what": what.what})
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var opts options
	usage := errors.New("usage: peer server|client ADDRESS MEASURE [--transport T] [--workers N] [--host IPV4] [--seconds S] [--write BYTES] [--connections N]")
	switch {
	case len(args) > 0 && args[0] == "server":
		args = args[1:]
	case len(args) > 2 && args[0] == "client":
		opts.address, opts.measure, args = args[1], args[2], args[3:]
	default:
		return opts, usage
	}
	flags := flag.NewFlagSet("peer", flag.ContinueOnError)
	flags.StringVar(&opts.transport, "transport", "tcp-noise", "tcp-noise, tcp-tls, quic or ws-noise")
	flags.StringVar(&opts.host, "host", "127.0.0.1", "where to listen")
	flags.IntVar(&opts.workers, "workers", 2, "threads that run Go code")
	flags.IntVar(&opts.write, "write", 64<<10, "bytes handed to a stream at once")
	flags.IntVar(&opts.connections, "connections", 1000, "connections held when they are idle")
	seconds := flags.Float64("seconds", 2, "how long to measure")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	opts.duration = time.Duration(*seconds * float64(time.Second))
	return opts, nil
}

// newHost listens if it shall. Nothing of the rich default stack is wanted: one transport, one security, one muxer.
func newHost(opts options, listen bool) (host.Host, error) {
	ip := "/ip4/" + opts.host
	tcpAddr, quicAddr, wsAddr := ip+"/tcp/0", ip+"/udp/0/quic-v1", ip+"/tcp/0/ws"
	muxer := libp2p.Muxer(yamux.ID, yamux.DefaultTransport)
	var addr string
	var transport []libp2p.Option
	switch opts.transport {
	case "tcp-noise":
		addr, transport = tcpAddr, []libp2p.Option{libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(noise.ID, noise.New), muxer}
	case "tcp-tls":
		addr, transport = tcpAddr, []libp2p.Option{libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(tls.ID, tls.New), muxer}
	case "ws-noise":
		addr, transport = wsAddr, []libp2p.Option{libp2p.Transport(websocket.New), libp2p.Security(noise.ID, noise.New), muxer}
	case "quic":
		addr, transport = quicAddr, []libp2p.Option{libp2p.Transport(quic.NewTransport)}
	default:
		return nil, unsupported{opts.transport}
	}
	where := libp2p.NoListenAddrs
	if listen {
		where = libp2p.ListenAddrStrings(addr)
	}
	return libp2p.New(append(transport, where,
		libp2p.ResourceManager(&network.NullResourceManager{}), // a thousand connections
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
	)...)
}

func about() string {
	info, _ := debug.ReadBuildInfo()
	for _, dep := range info.Deps {
		if dep.Path == "github.com/libp2p/go-libp2p" {
			return "go-libp2p " + strings.TrimPrefix(dep.Version, "v") + ", " + runtime.Version()
		}
	}
	return "go-libp2p"
}

func serve(opts options) error {
	h, err := newHost(opts, true)
	if err != nil {
		return err
	}
	defer h.Close()
	// Pings are answered by every node of the library.
	h.SetStreamHandler(perfProtocol, servePerf)
	h.SetStreamHandler(requestProtocol, serveRequest)
	addrs, err := peer.AddrInfoToP2pAddrs(host.InfoFromHost(h))
	if err != nil {
		return err
	}
	say(fields{"event": "listening", "address": addrs[0].String(), "about": about()})
	awaitEnd()
	return nil
}

// awaitEnd waits until the harness lets go of stdin, or goes away itself.
func awaitEnd() { io.Copy(io.Discard, os.Stdin) }

// node is a host with at most one connection.
type node struct {
	host.Host
	remote peer.AddrInfo
}

func newNode(opts options) (*node, error) {
	remote, err := peer.AddrInfoFromString(opts.address)
	if err != nil {
		return nil, err
	}
	h, err := newHost(opts, false)
	return &node{h, *remote}, err
}

func (n *node) dial() error {
	ctx, cancel := context.WithTimeout(context.Background(), stuck)
	defer cancel()
	return n.Connect(ctx, n.remote)
}

func (n *node) open(id protocol.ID) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stuck)
	defer cancel()
	return n.NewStream(network.WithNoDial(ctx, "one connection"), n.remote.ID, id)
}

func (n *node) hangUp() error { return n.Network().ClosePeer(n.remote.ID) }

type fields map[string]any

var stdout sync.Mutex

func say(line fields) {
	stdout.Lock()
	defer stdout.Unlock()
	json.NewEncoder(os.Stdout).Encode(line)
}
