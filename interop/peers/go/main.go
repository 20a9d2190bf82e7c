// An interop peer of Peerage on go-libp2p. See ../README.md for the command line and the events.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

const (
	stepDeadline = 20 * time.Second
	pings        = 3
	rsaBits      = 2048

	allSteps = "dial,ping,identify,echo-64k,echo-4m,perf,many,callback,ping-back,push,pushed"
)

// What the words of the command line mean.
var (
	securities = map[string]libp2p.Option{
		"noise": libp2p.Security(noise.ID, noise.New),
		"tls":   libp2p.Security(tls.ID, tls.New),
	}
	muxers = map[string]libp2p.Option{
		"yamux": libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		"mplex": libp2p.Muxer(mplexID, mplexTransport{}),
	}
	keyTypes = map[string]int{
		"ed25519": crypto.Ed25519, "secp256k1": crypto.Secp256k1, "ecdsa": crypto.ECDSA, "rsa": crypto.RSA,
	}
)

type options struct {
	mode, addr, transport, security, muxer, keyType string
	tlsCert, tlsKey, tlsCA                          string
	signing                                         string
	anyCert, parts                                  bool
	steps                                           []string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "gossipsub" {
		if err := gossipsub(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "peer:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "contract" {
		flags := flag.NewFlagSet("peer contract", flag.ExitOnError)
		suite := flags.String("suite", "transport", "transport or perf")
		flags.Parse(os.Args[2:])
		if err := contract(*suite); err != nil {
			fmt.Fprintln(os.Stderr, "peer:", err)
			os.Exit(1)
		}
		return
	}
	opts, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(2)
	}
	run := map[string]func(options) error{"listen": listen, "dial": dial, "gossip": gossip}[opts.mode]
	if err := run(opts); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var opts options
	if len(args) == 0 || !slices.Contains([]string{"listen", "dial", "gossip"}, args[0]) {
		return opts, errors.New("usage: peer listen|dial|gossip --addr <multiaddr> [--steps a,b] " +
			"[--transport tcp|ws|wss|quic-v1|webrtc-direct] [--tls-cert FILE --tls-key FILE] [--tls-ca FILE] " +
			"[--security noise|tls] [--muxer yamux|mplex] [--key-type ed25519|secp256k1|ecdsa|rsa] " +
			"[--signing strict|named|anonymous] [--parts]")
	}
	opts.mode = args[0]
	flags := flag.NewFlagSet("peer "+opts.mode, flag.ContinueOnError)
	flags.StringVar(&opts.addr, "addr", "", "where to listen, or whom to dial")
	flags.StringVar(&opts.transport, "transport", "tcp", "tcp, ws, wss, quic-v1 or webrtc-direct")
	flags.StringVar(&opts.tlsCert, "tls-cert", "", "the certificate of a listener over wss, as PEM")
	flags.StringVar(&opts.tlsKey, "tls-key", "", "its key, as PEM")
	flags.StringVar(&opts.tlsCA, "tls-ca", "", "whom a dialer over wss trusts, as PEM")
	flags.StringVar(&opts.security, "security", "noise", "noise or tls")
	flags.StringVar(&opts.muxer, "muxer", "yamux", "yamux or mplex")
	flags.StringVar(&opts.keyType, "key-type", "ed25519", "of the identity: ed25519, secp256k1, ecdsa or rsa")
	flags.StringVar(&opts.signing, "signing", "strict", "of messages: strict, named or anonymous")
	flags.BoolVar(&opts.parts, "parts", false, "speak of messages that travel in parts")
	steps := flags.String("steps", allSteps, "what to do, in order")
	if err := flags.Parse(args[1:]); err != nil {
		return opts, err
	}
	opts.steps = strings.Split(*steps, ",")
	_, keyType := keyTypes[opts.keyType]
	switch {
	case transports[opts.transport].new == nil:
		return opts, fmt.Errorf("no such transport: %s", opts.transport)
	case securities[opts.security] == nil:
		return opts, fmt.Errorf("no such security: %s", opts.security)
	case muxers[opts.muxer] == nil:
		return opts, fmt.Errorf("no such muxer: %s", opts.muxer)
	case !keyType:
		return opts, fmt.Errorf("no such type of key: %s", opts.keyType)
	case signings[opts.signing] == nil:
		return opts, fmt.Errorf("no such signing: %s", opts.signing)
	case opts.mode == "dial" && opts.steps[0] != "dial":
		return opts, errors.New("the first step must be dial")
	case opts.addr == "":
		opts.addr = transports[opts.transport].listen
	}
	return opts, nil
}

// newHost listens on addr, or nowhere when it is empty. Nothing of the rich default stack is wanted:
// one transport, one security, one muxer, so that a test tests what it names.
func newHost(opts options, addr string) (host.Host, error) {
	key, _, err := crypto.GenerateKeyPairWithReader(keyTypes[opts.keyType], rsaBits, rand.Reader)
	if err != nil {
		return nil, err
	}
	transport, err := transports[opts.transport].new(opts)
	if err != nil {
		return nil, err
	}
	where := libp2p.NoListenAddrs
	if addr != "" {
		where = libp2p.ListenAddrStrings(addr)
	}
	return libp2p.New(
		where,
		libp2p.Identity(key),
		transport,
		securities[opts.security],
		muxers[opts.muxer],
		libp2p.UserAgent(agent()),
		// The default allows a peer fewer streams of one protocol than the step many opens.
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
	)
}

// agent names the library and its version: the default of go-libp2p is the path of the program's module.
func agent() string {
	info, _ := debug.ReadBuildInfo()
	for _, dep := range info.Deps {
		if dep.Path == "github.com/libp2p/go-libp2p" {
			return "go-libp2p/" + strings.TrimPrefix(dep.Version, "v")
		}
	}
	return "go-libp2p"
}

func listen(opts options) error {
	h, err := newHost(opts, opts.addr)
	if err != nil {
		return err
	}
	defer h.Close()
	h.SetStreamHandler(echoProtocol, serveEcho)
	h.SetStreamHandler(perfProtocol, servePerf)
	h.SetStreamHandler(callbackProtocol, serveAsk(func(ctx context.Context, remote peer.ID) error {
		return echo(ctx, h, remote, callbackBytes)
	}))
	h.SetStreamHandler(pingBackProtocol, serveAsk(func(ctx context.Context, remote peer.ID) error {
		_, err := pingSteps(ctx, h, remote)
		return err
	}))
	h.SetStreamHandler(seenProtocol, serveAsk(func(ctx context.Context, remote peer.ID) error {
		return awaitChange(ctx, h, remote)
	}))
	h.SetStreamHandler(changeProtocol, serveAsk(func(context.Context, peer.ID) error {
		change(h)
		return nil
	}))

	identified, err := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return err
	}
	defer identified.Close()
	go func() {
		for e := range identified.Out() {
			emit(identifyFields(e.(event.EvtPeerIdentificationCompleted)), "event", "identified")
		}
	}()

	addrs, err := peer.AddrInfoToP2pAddrs(host.InfoFromHost(h))
	if err != nil {
		return err
	}
	emit(nil, "event", "listening", "peer", h.ID(), "addrs", addrs)

	// The harness holds the other end of stdin: when it goes away, so do we.
	io.Copy(io.Discard, os.Stdin)
	return nil
}

func dial(opts options) error {
	remote, err := peer.AddrInfoFromString(opts.addr)
	if err != nil {
		return err
	}
	h, err := newHost(opts, "")
	if err != nil {
		return err
	}
	defer h.Close()
	h.SetStreamHandler(echoProtocol, serveEcho)

	// Before dialing, because the event may come before the first step that asks for it.
	identified, err := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return err
	}
	defer identified.Close()

	allOk := true
	for _, step := range opts.steps {
		started := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), stepDeadline)
		details, err := runStep(ctx, h, *remote, identified, step)
		cancel()
		ms := float64(time.Since(started).Microseconds()) / 1000
		if err != nil {
			emit(nil, "event", "step", "step", step, "ok", false, "ms", ms, "error", err.Error())
			allOk = false
			if step == "dial" {
				break // nothing works without a connection
			}
			continue
		}
		emit(details, "event", "step", "step", step, "ok", true, "ms", ms)
	}
	emit(nil, "event", "done", "ok", allOk)
	if !allOk {
		return errors.New("a step failed")
	}
	return nil
}

func runStep(ctx context.Context, h host.Host, remote peer.AddrInfo, identified event.Subscription, step string) (fields, error) {
	switch step {
	case "dial":
		return fields{"peer": remote.ID}, h.Connect(ctx, remote)
	case "ping":
		return pingSteps(ctx, h, remote.ID)
	case "identify":
		select {
		case e := <-identified.Out():
			return identifyFields(e.(event.EvtPeerIdentificationCompleted)), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case "echo-64k":
		return fields{"bytes": 64 << 10}, echo(ctx, h, remote.ID, 64<<10)
	case "echo-4m":
		return fields{"bytes": 4 << 20}, echo(ctx, h, remote.ID, 4<<20)
	case "perf":
		return perf(ctx, h, remote.ID)
	case "many":
		return many(ctx, h, remote.ID)
	case "callback":
		return nil, ask(ctx, h, remote.ID, callbackProtocol)
	case "ping-back":
		return nil, ask(ctx, h, remote.ID, pingBackProtocol)
	case "push":
		change(h)
		return nil, ask(ctx, h, remote.ID, seenProtocol)
	case "pushed":
		if err := ask(ctx, h, remote.ID, changeProtocol); err != nil {
			return nil, err
		}
		return nil, awaitChange(ctx, h, remote.ID)
	}
	return nil, fmt.Errorf("no such step: %s", step)
}

func pingSteps(ctx context.Context, h host.Host, remote peer.ID) (fields, error) {
	ctx, cancel := context.WithCancel(ctx) // stops the library's endless pinging
	defer cancel()
	var rtts []float64
	for result := range ping.Ping(ctx, h, remote) {
		if result.Error != nil {
			return nil, result.Error
		}
		rtts = append(rtts, float64(result.RTT.Microseconds())/1000)
		if len(rtts) == pings {
			return fields{"rtts_ms": rtts}, nil
		}
	}
	return nil, ctx.Err()
}

func identifyFields(e event.EvtPeerIdentificationCompleted) fields {
	addrs := []string{}
	for _, addr := range e.ListenAddrs {
		addrs = append(addrs, addr.String())
	}
	observed := ""
	if e.ObservedAddr != nil {
		observed = e.ObservedAddr.String()
	}
	return fields{
		"peer": e.Peer, "agent": e.AgentVersion, "protocol_version": e.ProtocolVersion,
		"protocols": e.Protocols, "addrs": addrs, "observed": observed,
	}
}

type fields map[string]any

var stdout sync.Mutex

// emit prints the fields and the key-value pairs as one line of JSON. Events come from many goroutines.
func emit(more fields, pairs ...any) {
	line := fields{}
	for key, value := range more {
		line[key] = value
	}
	for i := 0; i < len(pairs); i += 2 {
		line[pairs[i].(string)] = pairs[i+1]
	}
	stdout.Lock()
	defer stdout.Unlock()
	json.NewEncoder(os.Stdout).Encode(line)
}

// openStream opens a stream on the connection that is there, and never dials.
func openStream(ctx context.Context, h host.Host, remote peer.ID, id protocol.ID) (network.Stream, error) {
	s, err := h.NewStream(network.WithNoDial(ctx, "one connection"), remote, id)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		s.SetDeadline(deadline)
	}
	return s, nil
}
