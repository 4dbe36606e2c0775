// What a Go program does with go.etcd.io/etcd/client/v3. ../README.md says how the test talks to it.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Patience with a busy machine.
const patience = 60 * time.Second

var input = bufio.NewScanner(os.Stdin)

func main() {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{os.Args[1]},
		DialTimeout: patience,
	})
	must(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	for _, step := range []struct {
		name string
		run  func(context.Context, *clientv3.Client)
	}{
		{"kv", kv},
		{"txn", txn},
		{"watch", watch},
		{"resume", resume},
		{"compaction", compaction},
		{"maintenance", maintenance},
		{"snapshot", snapshot},
	} {
		fmt.Println("==", step.name)
		step.run(ctx, client)
	}
	fmt.Println("== done")
}

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// ask has the test do something and waits until it is done.
func ask(what string) {
	fmt.Println("?", what)
	if !input.Scan() {
		must(errors.New("the test is gone"))
	}
}

func kv(ctx context.Context, client *clientv3.Client) {
	var revision int64
	for number := range 5 {
		put, err := client.Put(ctx, fmt.Sprintf("kv/%d", number), fmt.Sprintf("value %d", number))
		must(err)
		revision = put.Header.Revision
		fmt.Println("put", revision)
	}
	again, err := client.Put(ctx, "kv/1", "other", clientv3.WithPrevKV())
	must(err)
	fmt.Println("put over", again.PrevKv)
	descend := clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)
	for _, options := range [][]clientv3.OpOption{
		{clientv3.WithPrefix()},
		{clientv3.WithPrefix(), clientv3.WithLimit(2), descend},
		{clientv3.WithPrefix(), clientv3.WithKeysOnly()},
		{clientv3.WithPrefix(), clientv3.WithCountOnly()},
		{clientv3.WithPrefix(), clientv3.WithRev(revision - 2)},
		{clientv3.WithPrefix(), clientv3.WithSerializable(), clientv3.WithLimit(1)},
	} {
		found, err := client.Get(ctx, "kv/", options...)
		must(err)
		fmt.Println("get", found.Kvs, found.Count, found.More, found.Header.Revision)
	}
	gone, err := client.Delete(ctx, "kv/3", clientv3.WithFromKey(), clientv3.WithPrevKV())
	must(err)
	fmt.Println("deleted", gone.Deleted, gone.PrevKvs)
	_, err = client.Put(ctx, "", "no key")
	fmt.Println("refused", errors.Is(err, rpctypes.ErrEmptyKey), err)
	_, err = client.Get(ctx, "kv/1", clientv3.WithRev(1<<40))
	fmt.Println("refused", errors.Is(err, rpctypes.ErrFutureRev), err)
}

func txn(ctx context.Context, client *clientv3.Client) {
	for _, expected := range []string{"other", "something else"} {
		answer, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.Value("kv/1"), "=", expected), clientv3.Compare(clientv3.Version("none"), "=", 0)).
			Then(clientv3.OpPut("txn/a", "then"), clientv3.OpGet("kv/1"), clientv3.OpDelete("kv/0")).
			Else(clientv3.OpGet("txn/", clientv3.WithPrefix()), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("txn/b", "else")}, nil)).
			Commit()
		must(err)
		fmt.Println("txn", answer.Succeeded, answer.Header.Revision, answer.Responses)
	}
	_, err := client.Txn(ctx).Then(clientv3.OpPut("twice", "1"), clientv3.OpPut("twice", "2")).Commit()
	fmt.Println("refused", errors.Is(err, rpctypes.ErrDuplicateKey), err)
}

// next prints what comes next on a watch; progress is not expected.
func next(events clientv3.WatchChan) clientv3.WatchResponse {
	select {
	case response, open := <-events:
		if !open {
			must(errors.New("the watch has ended"))
		}
		for _, event := range response.Events {
			fmt.Println("event", event.Type, event.Kv, event.PrevKv, event.IsCreate())
		}
		return response
	case <-time.After(patience):
		must(errors.New("no event"))
	}
	return clientv3.WatchResponse{}
}

func watch(ctx context.Context, client *clientv3.Client) {
	watching, cancel := context.WithCancel(ctx)
	all := client.Watch(watching, "watch/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	deletes := client.Watch(watching, "watch/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	fmt.Println("created", next(all).Created, next(deletes).Created)
	first, err := client.Put(ctx, "watch/a", "1")
	must(err)
	_, err = client.Put(ctx, "watch/a", "2")
	must(err)
	_, err = client.Delete(ctx, "watch/a")
	must(err)
	for seen := 0; seen < 3; {
		seen += len(next(all).Events)
	}
	next(deletes)
	past := client.Watch(watching, "watch/", clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision))
	for seen := 0; seen < 3; {
		seen += len(next(past).Events)
	}
	must(client.RequestProgress(watching))
	if progress := next(all); !progress.IsProgressNotify() {
		must(fmt.Errorf("no progress: %v", progress))
	}
	cancel()
	for range all {
		fmt.Println("more than expected")
	}
}

// resume watches while the server is killed and comes back: the library goes on by itself.
func resume(ctx context.Context, client *clientv3.Client) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	events := client.Watch(watching, "resume/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	next(events)
	for number := range 5 {
		if number%2 == 1 {
			ask("restart")
		}
		for {
			_, err := client.Put(ctx, fmt.Sprintf("resume/%d", number), "")
			if err == nil {
				break
			}
			// The connection may not be back yet. Such a put was not sent.
			time.Sleep(20 * time.Millisecond)
		}
		next(events)
	}
}

func compaction(ctx context.Context, client *clientv3.Client) {
	put, err := client.Put(ctx, "compaction", "")
	must(err)
	_, err = client.Compact(ctx, put.Header.Revision, clientv3.WithCompactPhysical())
	must(err)
	_, err = client.Compact(ctx, put.Header.Revision)
	fmt.Println("refused", errors.Is(err, rpctypes.ErrCompacted), err)
	_, err = client.Get(ctx, "compaction", clientv3.WithRev(put.Header.Revision-1))
	fmt.Println("refused", errors.Is(err, rpctypes.ErrCompacted), err)
	late := <-client.Watch(ctx, "compaction", clientv3.WithRev(2))
	fmt.Println("late", late.Canceled, late.CompactRevision == put.Header.Revision, late.Err())
}

func maintenance(ctx context.Context, client *clientv3.Client) {
	endpoint := client.Endpoints()[0]
	status, err := client.Status(ctx, endpoint)
	must(err)
	fmt.Println("status", status.Version, status.StorageVersion, status.IsLearner, status.Errors, status.Leader == status.Header.MemberId)
	if status.DbSize <= 0 || status.DbSizeInUse <= 0 || status.RaftIndex < status.RaftAppliedIndex || status.RaftTerm < 2 {
		must(fmt.Errorf("odd: %v", status))
	}
	hash, err := client.HashKV(ctx, endpoint, 0)
	must(err)
	fmt.Println("hash", hash.Hash != 0, hash.HashRevision, hash.CompactRevision)
	_, err = client.Defragment(ctx, endpoint)
	must(err)
	alarms, err := client.AlarmList(ctx)
	must(err)
	members, err := client.MemberList(ctx)
	must(err)
	fmt.Println("alarms", alarms.Alarms, "members", len(members.Members), members.Members[0].Name, members.Members[0].IsLearner)
	_, err = client.MoveLeader(ctx, 1)
	fmt.Println("refused", errors.Is(err, rpctypes.ErrBadLeaderTransferee), err)
}

func snapshot(ctx context.Context, client *clientv3.Client) {
	taken, err := client.SnapshotWithVersion(ctx)
	must(err)
	defer taken.Snapshot.Close()
	bytes, err := io.ReadAll(taken.Snapshot)
	must(err)
	body, sum := bytes[:len(bytes)-sha256.Size], bytes[len(bytes)-sha256.Size:]
	fmt.Println("snapshot", taken.Version, sha256.Sum256(body) == [sha256.Size]byte(sum))
}
