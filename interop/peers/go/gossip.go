package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// What the words of --signing mean. Without an author, messages are told apart by what they say.
var signings = map[string][]pubsub.Option{
	"strict": {pubsub.WithMessageSignaturePolicy(pubsub.StrictSign)},
	"named":  {pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign)},
	"anonymous": {
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(message *pb.Message) string {
			digest := sha256.Sum256(message.GetData())
			return string(digest[:])
		}),
	},
}

// gossiper is a node that publishes and subscribes as it is told to.
type gossiper struct {
	host          host.Host
	pubsub        *pubsub.PubSub
	meshes        *meshes
	topics        map[string]*pubsub.Topic
	subscriptions map[string]*pubsub.Subscription
	parts         *parts
}

// command is one line of stdin.
type command struct {
	Do, Addr, Topic, Name, Parts string
	Bytes                        int
}

// gossip does what the lines on stdin say, until there are no more.
func gossip(opts options) error {
	h, err := newHost(opts, opts.addr)
	if err != nil {
		return err
	}
	defer h.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g := gossiper{
		host: h, meshes: &meshes{of: map[string][]peer.ID{}, protocols: map[peer.ID]protocol.ID{}},
		topics: map[string]*pubsub.Topic{}, subscriptions: map[string]*pubsub.Subscription{},
		parts: &parts{messages: map[[2]string]*pieces{}},
	}
	options := append([]pubsub.Option{pubsub.WithEventTracer(g.meshes)}, signings[opts.signing]...)
	if opts.parts {
		options = append(options, pubsub.WithPartialMessagesExtension(g.parts.extension()))
	}
	g.pubsub, err = pubsub.NewGossipSub(ctx, h, options...)
	if err != nil {
		return err
	}
	g.parts.pubsub = g.pubsub
	addrs, err := peer.AddrInfoToP2pAddrs(host.InfoFromHost(h))
	if err != nil {
		return err
	}
	emit(nil, "event", "listening", "peer", h.ID(), "addrs", addrs)

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var command command
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			return err
		}
		details, err := g.obey(ctx, command)
		if err != nil {
			emit(nil, "event", "answer", "do", command.Do, "ok", false, "error", err.Error())
			continue
		}
		emit(details, "event", "answer", "do", command.Do, "ok", true)
	}
	return lines.Err()
}

func (g *gossiper) obey(ctx context.Context, command command) (fields, error) {
	ctx, cancel := context.WithTimeout(ctx, stepDeadline)
	defer cancel()
	switch command.Do {
	case "dial":
		remote, err := peer.AddrInfoFromString(command.Addr)
		if err != nil {
			return nil, err
		}
		return nil, g.host.Connect(ctx, *remote)
	case "subscribe":
		return nil, g.subscribe(command.Topic, command.Parts)
	case "unsubscribe":
		subscription := g.subscriptions[command.Topic]
		if subscription == nil {
			return nil, errors.New("not subscribed")
		}
		delete(g.subscriptions, command.Topic)
		subscription.Cancel()
		return nil, nil
	case "publish":
		if command.Parts != "" {
			return nil, g.parts.publish(command.Topic, command.Name, command.Bytes, command.Parts)
		}
		topic, err := g.topic(command.Topic)
		if err != nil {
			return nil, err
		}
		return nil, topic.Publish(ctx, write(command.Name, command.Bytes))
	case "state":
		return g.state(command.Topic), nil
	}
	return nil, fmt.Errorf("no such command: %s", command.Do)
}

// topic joins a topic, which the library allows only once.
func (g *gossiper) topic(name string, options ...pubsub.TopicOpt) (*pubsub.Topic, error) {
	if topic := g.topics[name]; topic != nil {
		return topic, nil
	}
	topic, err := g.pubsub.Join(name, options...)
	if err == nil {
		g.topics[name] = topic
	}
	return topic, err
}

func (g *gossiper) subscribe(name, parts string) error {
	topic, err := g.topic(name, partsOptions[parts]...)
	if err != nil {
		return err
	}
	subscription, err := topic.Subscribe(pubsub.WithBufferSize(1024))
	if err != nil {
		return err
	}
	g.subscriptions[name] = subscription
	go func() {
		for {
			message, err := subscription.Next(context.Background())
			if err != nil {
				return // cancelled
			}
			if message.ReceivedFrom == g.host.ID() {
				continue // the library gives us our own as well
			}
			name, bytes, intact := read(message.GetData())
			author := ""
			if len(message.From) > 0 {
				author = message.GetFrom().String()
			}
			emit(nil, "event", "message", "topic", message.GetTopic(), "name", name, "bytes", bytes,
				"intact", intact, "author", author)
		}
	}()
	return nil
}

func (g *gossiper) state(topic string) fields {
	subscribers := g.pubsub.ListPeers(topic)
	if subscribers == nil {
		subscribers = []peer.ID{}
	}
	mesh, protocols := g.meshes.state(topic)
	return fields{"subscribers": subscribers, "mesh": mesh, "protocols": protocols}
}

// write makes a message: its name, a line feed, and the pattern.
func write(name string, size int) []byte {
	var message bytes.Buffer
	message.WriteString(name + "\n")
	io.Copy(&message, &pattern{left: max(0, size-message.Len())})
	return message.Bytes()
}

// read gives the name of a message, its size, and whether it is as it was written.
func read(message []byte) (string, int, bool) {
	name, _, _ := bytes.Cut(message, []byte("\n"))
	return string(name), len(message), bytes.Equal(message, write(string(name), len(message)))
}

// meshes notes what the library traces of streams and meshes, and otherwise keeps to itself.
type meshes struct {
	lock      sync.Mutex
	of        map[string][]peer.ID
	protocols map[peer.ID]protocol.ID
}

// Trace implements the library's EventTracer.
func (m *meshes) Trace(e *pb.TraceEvent) {
	m.lock.Lock()
	defer m.lock.Unlock()
	switch e.GetType() {
	case pb.TraceEvent_ON_NEW_OUTBOUND_STREAM:
		m.protocols[peer.ID(e.OnNewOutboundStream.PeerID)] = protocol.ID(e.OnNewOutboundStream.GetProto())
	case pb.TraceEvent_ON_CLOSED_OUTBOUND_STREAM:
		gone := peer.ID(e.OnClosedOutboundStream.PeerID)
		delete(m.protocols, gone)
		for topic := range m.of {
			m.remove(gone, topic)
		}
	case pb.TraceEvent_GRAFT:
		topic := e.Graft.GetTopic()
		m.of[topic] = append(m.of[topic], peer.ID(e.Graft.PeerID))
	case pb.TraceEvent_PRUNE:
		m.remove(peer.ID(e.Prune.PeerID), e.Prune.GetTopic())
	}
}

func (m *meshes) remove(gone peer.ID, topic string) {
	m.of[topic] = slices.DeleteFunc(m.of[topic], func(one peer.ID) bool { return one == gone })
}

func (m *meshes) state(topic string) ([]peer.ID, map[string]protocol.ID) {
	m.lock.Lock()
	defer m.lock.Unlock()
	protocols := map[string]protocol.ID{}
	for one, id := range m.protocols {
		protocols[one.String()] = id
	}
	return append([]peer.ID{}, m.of[topic]...), protocols
}
