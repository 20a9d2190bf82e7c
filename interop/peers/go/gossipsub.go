package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	maxMessage   = 10 << 20
	queued       = 600
	connectLimit = time.Minute
	connectRetry = 200 * time.Millisecond
)

// instruction is one of the gossipsub suite of libp2p/test-plans: of all fields, those of its type are there.
type instruction struct {
	Type             string
	NodeID           int
	Instruction      *instruction
	ConnectTo        []int
	ElapsedSeconds   int
	MessageID        uint64
	MessageSizeBytes int
	TopicID          string
	Partial          bool
	DelaySeconds     float64
	GossipSubParams  json.RawMessage
}

// scripted is a node that obeys such a script.
type scripted struct {
	node    int
	began   time.Time
	places  map[int]string
	host    host.Host
	log     *slog.Logger
	pubsub  *pubsub.PubSub
	topics  map[string]*pubsub.Topic
	waiting context.Context
}

// gossipsub obeys a script, as the suite wants it, at the place that a file says.
func gossipsub(args []string) error {
	began := time.Now()
	flags := flag.NewFlagSet("peer gossipsub", flag.ExitOnError)
	params := flags.String("params", "", "the script")
	node := flags.Int("node", 0, "which node this is")
	hosts := flags.String("hosts", "", "where nodes are: on each line a number and a multiaddr")
	flags.Parse(args)
	text, err := os.ReadFile(*params)
	if err != nil {
		return err
	}
	var script struct{ Script []instruction }
	if err := json.Unmarshal(text, &script); err != nil {
		return err
	}
	places, err := readHosts(*hosts)
	if err != nil {
		return err
	}
	h, err := libp2p.New(libp2p.ListenAddrStrings(places[*node]), libp2p.Identity(nodeKey(*node)))
	if err != nil {
		return err
	}
	defer h.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	log.Info("PeerID", "id", h.ID().String(), "node_id", *node)
	s := &scripted{
		node: *node, began: began, places: places, host: h, log: log, topics: map[string]*pubsub.Topic{}, waiting: ctx,
	}
	for _, instruction := range script.Script {
		if err := s.follow(ctx, instruction); err != nil {
			return fmt.Errorf("%s: %w", instruction.Type, err)
		}
	}
	return nil
}

func readHosts(file string) (map[int]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	places := map[int]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var node int
		var place string
		if _, err := fmt.Sscan(strings.TrimSpace(lines.Text()), &node, &place); err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		places[node] = place
	}
	return places, lines.Err()
}

// nodeKey is made of the number, in little-endian.
func nodeKey(node int) crypto.PrivKey {
	seed := make([]byte, ed25519.SeedSize)
	binary.LittleEndian.PutUint64(seed, uint64(node))
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		panic(err)
	}
	return key
}

func (s *scripted) follow(ctx context.Context, i instruction) error {
	if s.pubsub == nil && i.Type != "initGossipSub" && i.Type != "ifNodeIDEquals" && i.Type != "waitUntil" {
		return errors.New("initGossipSub has to come before")
	}
	switch i.Type {
	case "ifNodeIDEquals":
		if i.NodeID != s.node || i.Instruction == nil {
			return nil
		}
		return s.follow(ctx, *i.Instruction)
	case "waitUntil":
		time.Sleep(time.Until(s.began.Add(time.Duration(i.ElapsedSeconds) * time.Second)))
		return nil
	case "initGossipSub":
		return s.start(ctx, i.GossipSubParams)
	case "connect":
		for _, node := range i.ConnectTo {
			if err := s.connect(ctx, node); err != nil {
				return err
			}
		}
		return nil
	case "setTopicValidationDelay":
		delay := time.Duration(i.DelaySeconds * float64(time.Second))
		return s.pubsub.RegisterTopicValidator(i.TopicID, func(context.Context, peer.ID, *pubsub.Message) bool {
			time.Sleep(delay)
			return true
		})
	case "subscribeToTopic":
		if i.Partial {
			return errors.New("partial messages are not supported")
		}
		topic, err := s.topic(i.TopicID)
		if err != nil {
			return err
		}
		subscription, err := topic.Subscribe()
		if err != nil {
			return err
		}
		go func() {
			for {
				if _, err := subscription.Next(s.waiting); err != nil {
					return
				}
			}
		}()
		return nil
	case "publish":
		topic, err := s.topic(i.TopicID)
		if err != nil {
			return err
		}
		message := make([]byte, max(i.MessageSizeBytes, 8))
		binary.BigEndian.PutUint64(message, i.MessageID)
		return topic.Publish(ctx, message)
	default:
		return errors.New("not supported")
	}
}

func (s *scripted) start(ctx context.Context, given json.RawMessage) error {
	params := pubsub.DefaultGossipSubParams()
	if err := json.Unmarshal(given, &params); err != nil {
		return err
	}
	ps, err := pubsub.NewGossipSub(ctx, s.host,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(message *pb.Message) string {
			return string(message.Data[:min(8, len(message.Data))])
		}),
		pubsub.WithPeerOutboundQueueSize(queued),
		pubsub.WithValidateQueueSize(queued),
		pubsub.WithMaxMessageSize(maxMessage),
		pubsub.WithGossipSubParams(params),
		pubsub.WithEventTracer(receipts{s.log}),
	)
	s.pubsub = ps
	return err
}

func (s *scripted) topic(name string) (*pubsub.Topic, error) {
	if topic, ok := s.topics[name]; ok {
		return topic, nil
	}
	topic, err := s.pubsub.Join(name)
	if err == nil {
		s.topics[name] = topic
	}
	return topic, err
}

// connect waits for who is not there yet.
func (s *scripted) connect(ctx context.Context, node int) error {
	id, err := peer.IDFromPrivateKey(nodeKey(node))
	if err != nil {
		return err
	}
	remote, err := peer.AddrInfoFromString(s.places[node] + "/p2p/" + id.String())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	for {
		dial := s.host.Connect(ctx, *remote)
		if dial == nil || ctx.Err() != nil {
			return dial
		}
		time.Sleep(connectRetry)
	}
}

// receipts logs every message of every RPC, copies as well.
type receipts struct{ log *slog.Logger }

func (r receipts) Trace(event *pb.TraceEvent) {
	rpc := event.GetRecvRPC()
	if rpc == nil {
		return
	}
	from, err := peer.IDFromBytes(rpc.GetReceivedFrom())
	if err != nil {
		return
	}
	for _, message := range rpc.GetMeta().GetMessages() {
		if id := message.GetMessageID(); len(id) == 8 {
			number := fmt.Sprint(binary.BigEndian.Uint64(id))
			r.log.Info("Received Message", "id", number, "from", from.String(), "topic", message.GetTopic())
		}
	}
}
