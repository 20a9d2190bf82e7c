package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p-pubsub/partialmessages"
	"github.com/libp2p/go-libp2p-pubsub/partialmessages/bitmap"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// How many pieces every message has, and how many bytes of them go into one RPC.
const (
	pieceCount = 16
	pieceRoom  = 512 << 10
	bitmapLen  = (pieceCount + 7) / 8
)

// What the words of a subscription's "parts" mean.
var partsOptions = map[string][]pubsub.TopicOpt{
	"":         nil,
	"requests": {pubsub.RequestPartialMessages()},
	"sends":    {pubsub.SupportsPartialMessages()},
}

// parts are the messages that come and go in pieces. A message's group is its name.
type parts struct {
	lock     sync.Mutex
	messages map[[2]string]*pieces
	pubsub   *pubsub.PubSub
}

// pieces are what there is of one message, and of whom each was asked that is not there.
type pieces struct {
	there [pieceCount][]byte
	asked [pieceCount]peer.ID
	told  bool // of on stdout
}

// hearer is what a peer and this node have told each other of one message.
type hearer struct {
	there, wanted bitmap.Bitmap // nil as long as it has said nothing
	told          []byte
	given         bitmap.Bitmap
}

// extension is what the library takes.
func (p *parts) extension() *partialmessages.PartialMessagesExtension[hearer] {
	return &partialmessages.PartialMessagesExtension[hearer]{
		Logger:        slog.New(slog.NewTextHandler(io.Discard, nil)),
		OnIncomingRPC: p.heard,
		OnEmitGossip: func(topic string, group []byte, _ []peer.ID, _ map[peer.ID]hearer) {
			go p.say(topic, string(group))
		},
	}
}

// publish cuts a message, and has only the pieces whose share that is.
func (p *parts) publish(topic, name string, size int, share string) error {
	has := map[string]func(int) bool{
		"all":  func(int) bool { return true },
		"even": func(n int) bool { return n%2 == 0 },
		"odd":  func(n int) bool { return n%2 == 1 },
	}[share]
	if has == nil {
		return fmt.Errorf("no such share: %s", share)
	}
	p.lock.Lock()
	message, rest := p.message(topic, name), write(name, size)
	length := (len(rest) + pieceCount - 1) / pieceCount
	for n := range pieceCount {
		piece := rest[:min(length, len(rest))]
		rest = rest[len(piece):]
		if has(n) {
			message.there[n] = piece
		}
	}
	message.told = share == "all" // what was here is nothing to tell of
	message.tell(topic, name)
	p.lock.Unlock()
	return p.say(topic, name)
}

func (p *parts) message(topic, group string) *pieces {
	message := p.messages[[2]string{topic, group}]
	if message == nil {
		message = &pieces{}
		p.messages[[2]string{topic, group}] = message
	}
	return message
}

// heard takes what a peer has said, asks it for what is missing, and says what there is then.
func (p *parts) heard(from peer.ID, hearers map[peer.ID]hearer, rpc *pb.PartialMessagesExtension) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	message := p.message(rpc.GetTopicID(), string(rpc.GroupID))
	if err := message.take(rpc.PartialMessage); err != nil {
		return err
	}
	if metadata := rpc.PartsMetadata; metadata != nil {
		if len(metadata) != 2*bitmapLen {
			return fmt.Errorf("metadata of %d bytes", len(metadata))
		}
		known := hearers[from]
		known.there, known.wanted = metadata[:bitmapLen], metadata[bitmapLen:]
		hearers[from] = known
		for n := range pieceCount {
			if message.there[n] == nil && message.asked[n] == "" && known.there.Get(n) {
				message.asked[n] = from
			}
		}
	}
	message.tell(rpc.GetTopicID(), string(rpc.GroupID))
	go p.say(rpc.GetTopicID(), string(rpc.GroupID)) // not from within the library
	return nil
}

// say tells peers what is news to them, and gives them what they want.
func (p *parts) say(topic, group string) error {
	actions := func(hearers map[peer.ID]hearer, requests func(peer.ID) bool) iter.Seq2[peer.ID, partialmessages.PublishAction] {
		return func(yield func(peer.ID, partialmessages.PublishAction) bool) {
			p.lock.Lock()
			defer p.lock.Unlock()
			message := p.message(topic, group)
			for to, known := range hearers {
				var action partialmessages.PublishAction
				if requests(to) && known.wanted != nil {
					action.EncodedPartialMessage = message.give(&known)
				}
				if metadata := message.metadata(to); !bytes.Equal(metadata, known.told) {
					action.EncodedPartsMetadata, known.told = metadata, metadata
				}
				hearers[to] = known
				if !yield(to, action) {
					return
				}
			}
		}
	}
	return pubsub.PublishPartial(p.pubsub, topic, []byte(group), actions)
}

// give writes what a peer wants and was not given.
func (m *pieces) give(to *hearer) []byte {
	if to.given == nil {
		to.given = make(bitmap.Bitmap, bitmapLen)
	}
	var out []byte
	for n, piece := range m.there {
		if piece == nil || !to.wanted.Get(n) || to.given.Get(n) || len(out)+len(piece) > pieceRoom {
			continue
		}
		out = binary.AppendUvarint(out, uint64(n))
		out = binary.AppendUvarint(out, uint64(len(piece)))
		out = append(out, piece...)
		to.given.Set(n)
	}
	return out
}

func (m *pieces) take(parts []byte) error {
	from := bytes.NewReader(parts)
	for from.Len() > 0 {
		n, err := binary.ReadUvarint(from)
		if err != nil {
			return err
		}
		size, err := binary.ReadUvarint(from)
		if err != nil {
			return err
		}
		if n >= pieceCount || size > uint64(from.Len()) {
			return fmt.Errorf("piece %d of %d bytes", n, size)
		}
		piece := make([]byte, size)
		if _, err := io.ReadFull(from, piece); err != nil {
			return err
		}
		if m.there[n] == nil {
			m.there[n] = piece
		}
	}
	return nil
}

// tell says once that a message is whole.
func (m *pieces) tell(topic, group string) {
	whole := m.whole()
	if whole == nil || m.told {
		return
	}
	m.told = true
	name, size, intact := read(whole)
	emit(nil, "event", "message", "topic", topic, "name", name, "bytes", size,
		"intact", intact && name == group, "author", "")
}

// metadata is what is there, and what is wanted of a peer.
func (m *pieces) metadata(of peer.ID) []byte {
	there, wanted := make(bitmap.Bitmap, bitmapLen), make(bitmap.Bitmap, bitmapLen)
	for n := range pieceCount {
		if m.there[n] != nil {
			there.Set(n)
		} else if m.asked[n] == of {
			wanted.Set(n)
		}
	}
	return append(there, wanted...)
}

// whole is the message, once all of it is there.
func (m *pieces) whole() []byte {
	for _, piece := range m.there {
		if piece == nil {
			return nil
		}
	}
	return bytes.Join(m.there[:], nil)
}
