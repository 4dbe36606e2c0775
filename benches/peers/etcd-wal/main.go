// Commits a second of etcd's own log: etcd-wal DIR RECORD-BYTES WRITERS. Each line of standard input is a number of seconds to commit
// for; the answer is a line with the rate. One goroutine saves what all writers handed in by then, as etcd's raft loop does;
// each Save syncs.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

func ptr[T any](value T) *T { return &value }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	record, err := strconv.Atoi(os.Args[2])
	must(err)
	writers, err := strconv.Atoi(os.Args[3])
	must(err)
	log, err := wal.Create(zap.NewNop(), os.Args[1], nil)
	must(err)
	data := make([]byte, record)
	requests := make(chan chan struct{}, writers)
	for i := 0; i < writers; i++ {
		go func() {
			done := make(chan struct{}, 1)
			for {
				requests <- done
				<-done
			}
		}()
	}
	index := uint64(0)
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		seconds, err := strconv.ParseFloat(orders.Text(), 64)
		must(err)
		limit := time.Duration(seconds * float64(time.Second))
		start, count := time.Now(), 0
		for time.Since(start) < limit {
			waiting := []chan struct{}{<-requests}
			for more := true; more && len(waiting) < writers; {
				select {
				case done := <-requests:
					waiting = append(waiting, done)
				default:
					more = false
				}
			}
			entries := make([]*raftpb.Entry, len(waiting))
			for i := range entries {
				index++
				entries[i] = &raftpb.Entry{Term: ptr[uint64](1), Index: ptr(index), Data: data}
			}
			must(log.Save(&raftpb.HardState{Term: ptr[uint64](1), Vote: ptr[uint64](1), Commit: ptr(index)}, entries))
			for _, done := range waiting {
				done <- struct{}{}
			}
			count += len(waiting)
		}
		fmt.Println(float64(count) / time.Since(start).Seconds())
	}
}
