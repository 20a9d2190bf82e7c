package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	warmUp       = 200 * time.Millisecond // before anything counts, at most
	stuck        = 30 * time.Second       // what is later hangs
	settle       = 2 * time.Second        // before memory is looked at
	endless      = 1 << 44                // a download that ends by time
	nodesAtOnce  = 32
	requestsMany = 64
	idleAtOnce   = 16
)

// measure takes a measure, says what it is, and waits: whoever reads it looks at this process once more.
func measure(opts options) error {
	var err error
	switch opts.measure {
	case "up":
		err = transfer(opts, upload)
	case "down":
		err = transfer(opts, download)
	case "ping":
		err = pings(opts)
	case "connect":
		err = connections(opts, 1, true)
	case "connect-32":
		err = connections(opts, nodesAtOnce, false)
	case "first-contact":
		err = firstContact(opts)
	case "requests":
		err = requests(opts, 1)
	case "requests-64":
		err = requests(opts, requestsMany)
	case "idle":
		err = idle(opts)
	default:
		err = fmt.Errorf("no such measure: %s", opts.measure)
	}
	if err == nil {
		awaitEnd()
	}
	return err
}

func connected(opts options) (*node, error) {
	n, err := newNode(opts)
	if err == nil {
		err = n.dial()
	}
	return n, err
}

func transfer(opts options, way func(*node, options, time.Duration) (int64, time.Duration, error)) error {
	n, err := connected(opts)
	if err != nil {
		return err
	}
	if _, _, err := way(n, opts, min(warmUp, opts.duration)); err != nil {
		return err
	}
	say(fields{"event": "begin"})
	bytes, took, err := way(n, opts, opts.duration)
	if err == nil {
		say(fields{"event": "result", "result": fields{"bytes": bytes, "seconds": took.Seconds()}})
	}
	return err
}

// upload sends for so long, and until the listener has read everything.
func upload(n *node, opts options, duration time.Duration) (int64, time.Duration, error) {
	began := time.Now()
	s, err := n.open(perfProtocol)
	if err != nil {
		return 0, 0, err
	}
	defer s.Reset()
	if err := binary.Write(s, binary.BigEndian, uint64(1)); err != nil {
		return 0, 0, err
	}
	buffer := make([]byte, opts.write)
	var sent int64
	for time.Since(began) < duration {
		n, err := s.Write(buffer)
		if err != nil {
			return 0, 0, err
		}
		sent += int64(n)
	}
	if err := s.CloseWrite(); err != nil {
		return 0, 0, err
	}
	_, err = io.ReadFull(s, buffer[:1])
	return sent, time.Since(began), err
}

// download reads for so long, and then leaves the rest.
func download(n *node, opts options, duration time.Duration) (int64, time.Duration, error) {
	began := time.Now()
	s, err := n.open(perfProtocol)
	if err != nil {
		return 0, 0, err
	}
	defer s.Reset()
	if err := binary.Write(s, binary.BigEndian, uint64(endless)); err != nil {
		return 0, 0, err
	}
	if err := s.CloseWrite(); err != nil {
		return 0, 0, err
	}
	buffer := make([]byte, opts.write)
	var read int64
	for time.Since(began) < duration {
		n, err := s.Read(buffer)
		if err != nil {
			return 0, 0, err
		}
		read += int64(n)
	}
	return read, time.Since(began), nil
}

func pings(opts options) error {
	n, err := connected(opts)
	if err != nil {
		return err
	}
	s, err := n.open(pingProtocol)
	if err != nil {
		return err
	}
	defer s.Reset()
	for warm := time.Now(); time.Since(warm) < min(warmUp, opts.duration); {
		if _, err := roundTrip(s); err != nil {
			return err
		}
	}
	say(fields{"event": "begin"})
	var times []time.Duration
	began := time.Now()
	for time.Since(began) < opts.duration {
		took, err := roundTrip(s)
		if err != nil {
			return err
		}
		times = append(times, took)
	}
	sayOperations(times, time.Since(began))
	return nil
}

func roundTrip(s network.Stream) (time.Duration, error) {
	bytes := make([]byte, pingSize)
	began := time.Now()
	s.SetDeadline(began.Add(stuck))
	if _, err := s.Write(bytes); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(s, bytes)
	return time.Since(began), err
}

func connections(opts options, count int, withPing bool) error {
	var nodes []*node
	for range count {
		n, err := newNode(opts)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
		if _, err := connection(n, withPing); err != nil {
			return err
		}
	}
	say(fields{"event": "begin"})
	began := time.Now()
	times, err := all(count, func(i int) (times []time.Duration, err error) {
		for time.Since(began) < opts.duration {
			took, err := connection(nodes[i], withPing)
			if err != nil {
				return nil, err
			}
			times = append(times, took)
		}
		return times, nil
	})
	if err == nil {
		sayOperations(times, time.Since(began))
	}
	return err
}

// firstContact connects by nodes that have never heard of the listener.
func firstContact(opts options) error {
	contact := func() (time.Duration, error) {
		n, err := newNode(opts)
		if err != nil {
			return 0, err
		}
		defer n.Close()
		return connection(n, true)
	}
	if _, err := contact(); err != nil {
		return err
	}
	say(fields{"event": "begin"})
	began := time.Now()
	var times []time.Duration
	for time.Since(began) < opts.duration {
		took, err := contact()
		if err != nil {
			return err
		}
		times = append(times, took)
	}
	sayOperations(times, time.Since(began))
	return nil
}

// connection dials and closes. What it took does not count the close, but how many there are in a second does.
func connection(n *node, withPing bool) (time.Duration, error) {
	began := time.Now()
	if err := n.dial(); err != nil {
		return 0, err
	}
	if withPing {
		s, err := n.open(pingProtocol)
		if err != nil {
			return 0, err
		}
		if _, err := roundTrip(s); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	return took, n.hangUp()
}

func requests(opts options, atOnce int) error {
	n, err := connected(opts)
	if err != nil {
		return err
	}
	ask := func(duration time.Duration) ([]time.Duration, error) {
		began := time.Now()
		return all(atOnce, func(int) (times []time.Duration, err error) {
			for time.Since(began) < duration {
				took, err := request(n)
				if err != nil {
					return nil, err
				}
				times = append(times, took)
			}
			return times, nil
		})
	}
	if _, err := ask(min(warmUp, opts.duration)); err != nil {
		return err
	}
	say(fields{"event": "begin"})
	began := time.Now()
	times, err := ask(opts.duration)
	if err == nil {
		sayOperations(times, time.Since(began))
	}
	return err
}

func request(n *node) (time.Duration, error) {
	began := time.Now()
	s, err := n.open(requestProtocol)
	if err != nil {
		return 0, err
	}
	s.SetDeadline(began.Add(stuck))
	request := make([]byte, requestSize)
	request[0] = requestSize - 1
	if _, err := s.Write(request); err != nil {
		return 0, err
	}
	if err := s.CloseWrite(); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(s, request); err != nil {
		return 0, err
	}
	if extra, err := s.Read(request); extra > 0 || err != io.EOF {
		return 0, fmt.Errorf("after the answer came %d bytes, %v", extra, err)
	}
	return time.Since(began), s.Close()
}

func idle(opts options) error {
	held, err := hold(opts, nil, idleAtOnce)
	if err != nil {
		return err
	}
	time.Sleep(settle)
	say(fields{"event": "begin"})
	began := time.Now()
	if _, err = hold(opts, held, opts.connections); err != nil {
		return err
	}
	time.Sleep(settle)
	say(fields{"event": "result", "result": fields{"connections": opts.connections, "seconds": time.Since(began).Seconds()}})
	return nil
}

// hold opens so many connections more, each by a node of its own.
func hold(opts options, held []*node, count int) ([]*node, error) {
	wanted := len(held) + count
	for len(held) < wanted {
		some := min(idleAtOnce, wanted-len(held))
		nodes := make([]*node, some)
		_, err := all(some, func(i int) (_ []time.Duration, err error) {
			nodes[i], err = connected(opts)
			return nil, err
		})
		if err != nil {
			return nil, err
		}
		held = append(held, nodes...)
	}
	return held, nil
}

// all does the same so often at once, and puts together what comes of it.
func all(count int, do func(i int) ([]time.Duration, error)) ([]time.Duration, error) {
	var group sync.WaitGroup
	var lock sync.Mutex
	var times []time.Duration
	var failure error
	for i := range count {
		group.Add(1)
		go func() {
			defer group.Done()
			some, err := do(i)
			lock.Lock()
			defer lock.Unlock()
			times = append(times, some...)
			if err != nil {
				failure = err
			}
		}()
	}
	group.Wait()
	return times, failure
}

func sayOperations(times []time.Duration, took time.Duration) {
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	say(fields{"event": "result", "result": fields{
		"operations": len(times), "seconds": took.Seconds(),
		"p50_us": quantile(times, 50), "p99_us": quantile(times, 99),
	}})
}

// quantile is the time that so many of a hundred do not exceed, in microseconds; the next higher between two.
func quantile(sorted []time.Duration, percent int) float64 {
	rank := (len(sorted)*percent + 99) / 100
	if rank == 0 {
		return 0
	}
	return float64(sorted[rank-1].Nanoseconds()) / 1000
}
