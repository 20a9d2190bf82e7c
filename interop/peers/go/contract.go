package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	contractTimeout = 180
	valid           = 48 * time.Hour
)

// settings is what the environment says in the contract of the official suites: libp2p/unified-testing in upper case,
// and libp2p/test-plans in lower case. See ../README.md.
type settings struct {
	unified, isDialer bool
	redis, key, ip    string
	timeout           time.Duration
	options           options
}

func readSettings() (settings, error) {
	unified := os.Getenv("TRANSPORT") != ""
	of := func(name, old, otherwise string) string {
		if !unified {
			name = old
		}
		if value := os.Getenv(name); value != "" {
			return value
		}
		return otherwise
	}
	seconds, err := strconv.Atoi(of("TEST_TIMEOUT_SECS", "test_timeout_seconds", strconv.Itoa(contractTimeout)))
	if err != nil {
		return settings{}, err
	}
	key := "listenerAddr"
	if unified {
		key = os.Getenv("TEST_KEY") + "_listener_multiaddr"
	}
	s := settings{
		unified:  unified,
		isDialer: of("IS_DIALER", "is_dialer", "") == "true",
		redis:    of("REDIS_ADDR", "redis_addr", "redis:6379"),
		key:      key,
		ip:       of("LISTENER_IP", "ip", "0.0.0.0"),
		timeout:  time.Duration(seconds) * time.Second,
		options: options{
			transport: of("TRANSPORT", "transport", ""),
			security:  of("SECURE_CHANNEL", "security", "noise"),
			muxer:     of("MUXER", "muxer", "yamux"),
			keyType:   "ed25519",
			anyCert:   true,
		},
	}
	opts := s.options
	if transports[opts.transport].new == nil || securities[opts.security] == nil || muxers[opts.muxer] == nil {
		return s, fmt.Errorf("unknown: %s, %s or %s", opts.transport, opts.security, opts.muxer)
	}
	return s, nil
}

// contract obeys it: what it prints is what the suite reads.
func contract(suite string) error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	redis, err := connectRedis(ctx, s.redis)
	if err != nil {
		return err
	}
	if s.isDialer {
		return contractDial(ctx, s, suite, redis)
	}
	return contractListen(ctx, s, suite, redis)
}

// contractListen runs until it is killed: who ends first, ends the test.
func contractListen(ctx context.Context, s settings, suite string, redis *redis) error {
	addr := strings.Replace(transports[s.options.transport].listen, "127.0.0.1", s.ip, 1)
	if s.options.transport == "wss" {
		dir, err := os.MkdirTemp("", "interop-go-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := selfSigned(&s.options, dir); err != nil {
			return err
		}
	}
	h, err := newHost(s.options, addr)
	if err != nil {
		return err
	}
	defer h.Close()
	h.SetStreamHandler(perfProtocol, servePerf)
	published, err := publishedAddr(h, net.ParseIP(s.ip).IsLoopback())
	if err != nil {
		return err
	}
	push := "RPUSH"
	if suite == "perf" {
		push = "SET"
	}
	if _, err := redis.command("DEL", s.key); err != nil {
		return err
	}
	if _, err := redis.command(push, s.key, published); err != nil {
		return err
	}
	<-ctx.Done()
	return errors.New("nobody has ended this in time")
}

// selfSigned makes a certificate for one test, signed by nobody. Who is there is proven within.
func selfSigned(opts *options, dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(valid)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	opts.tlsCert, opts.tlsKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return errors.Join(os.WriteFile(opts.tlsCert, certPEM, 0o600), os.WriteFile(opts.tlsKey, keyPEM, 0o600))
}

// publishedAddr is the first that is not on loopback, unless that is where it was told to listen.
func publishedAddr(h host.Host, onLoopback bool) (string, error) {
	addrs, err := peer.AddrInfoToP2pAddrs(host.InfoFromHost(h))
	if err != nil {
		return "", err
	}
	for _, addr := range addrs {
		if onLoopback || !manet.IsIPLoopback(addr) {
			return addr.String(), nil
		}
	}
	return "", errors.New("no address to publish")
}

func contractDial(ctx context.Context, s settings, suite string, redis *redis) error {
	if suite == "perf" {
		return errors.New("this peer measures nothing as a dialer")
	}
	h, err := newHost(s.options, "")
	if err != nil {
		return err
	}
	defer h.Close()
	reply, err := redis.command("BLPOP", s.key, "0")
	if err != nil {
		return err
	}
	remote, err := peer.AddrInfoFromString(reply[len(reply)-1])
	if err != nil {
		return err
	}
	started := time.Now()
	if err := h.Connect(ctx, *remote); err != nil {
		return err
	}
	pinged := <-ping.Ping(ctx, h, remote.ID)
	if pinged.Error != nil {
		return pinged.Error
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	handshake, rtt := ms(time.Since(started)), ms(pinged.RTT)
	if s.unified {
		fmt.Printf("latency:\n  handshake_plus_one_rtt: %g\n  ping_rtt: %g\n  unit: ms\n", handshake, rtt)
		return nil
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"handshakePlusOneRTTMillis": handshake, "pingRTTMilllis": rtt,
	})
}
