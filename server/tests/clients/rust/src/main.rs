//! What a Rust program does with etcd-client. ../README.md says how the test talks to it.

use std::error::Error;

use etcd_client::{
    AlarmAction, AlarmType, Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Event, GetOptions,
    KeyValue, PutOptions, SortOrder, SortTarget, Txn, TxnOp, WatchFilterType, WatchOptions, WatchStream,
};
use sha2::{Digest, Sha256};

type Done = Result<(), Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let address = std::env::args().nth(1).ok_or("no address")?;
    let mut client = Client::connect([address], None).await?;
    kv(&mut client).await?;
    txn(&mut client).await?;
    watch(&mut client).await?;
    resume(&mut client).await?;
    compaction(&mut client).await?;
    maintenance(&mut client).await?;
    snapshot(&mut client).await?;
    println!("== done");
    Ok(())
}

/// Has the test do something and waits until it is done.
fn ask(what: &str) -> Done {
    println!("? {what}");
    match std::io::stdin().read_line(&mut String::new())? {
        0 => Err("the test is gone".into()),
        _ => Ok(()),
    }
}

fn pair(kv: &KeyValue) -> String {
    let (key, value) = (String::from_utf8_lossy(kv.key()), String::from_utf8_lossy(kv.value()));
    format!("{key}={value} {}/{}/{}", kv.create_revision(), kv.mod_revision(), kv.version())
}

fn pairs(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(pair).collect()
}

async fn kv(client: &mut Client) -> Done {
    println!("== kv");
    for number in 0..5 {
        let put = client.put(format!("kv/{number}"), format!("value {number}"), None).await?;
        println!("put {:?}", put.header().map(|header| header.revision()));
    }
    let over = client.put("kv/1", "other", Some(PutOptions::new().with_prev_key())).await?;
    println!("put over {:?}", over.prev_key().map(pair));
    let prefix = || GetOptions::new().with_prefix();
    for options in [
        prefix(),
        prefix().with_limit(2).with_sort(SortTarget::Key, SortOrder::Descend),
        prefix().with_keys_only(),
        prefix().with_count_only(),
        prefix().with_revision(4),
        prefix().with_serializable(),
    ] {
        let found = client.get("kv/", Some(options)).await?;
        println!("get {:?} {} {}", pairs(found.kvs()), found.count(), found.more());
    }
    let gone = client.delete("kv/3", Some(DeleteOptions::new().with_from_key().with_prev_key())).await?;
    println!("deleted {} {:?}", gone.deleted(), pairs(gone.prev_kvs()));
    println!("refused {:?}", client.put("", "no key", None).await.err().map(|error| error.to_string()));
    Ok(())
}

async fn txn(client: &mut Client) -> Done {
    println!("== txn");
    for expected in ["other", "something else"] {
        let txn = Txn::new()
            .when([
                Compare::value("kv/1", CompareOp::Equal, expected),
                Compare::version("none", CompareOp::Equal, 0),
            ])
            .and_then([
                TxnOp::put("txn/a", "then", None),
                TxnOp::get("kv/1", None),
                TxnOp::delete("kv/0", None),
            ])
            .or_else([TxnOp::txn(Txn::new().and_then([TxnOp::put("txn/b", "else", None)]))]);
        let answer = client.txn(txn).await?;
        println!("txn {} {}", answer.succeeded(), answer.op_responses().len());
    }
    let twice = Txn::new().and_then([TxnOp::put("twice", "1", None), TxnOp::put("twice", "2", None)]);
    println!("refused {:?}", client.txn(twice).await.err().map(|error| error.to_string()));
    Ok(())
}

fn tell(event: &Event) {
    let [kv, previous] = [event.kv(), event.prev_kv()].map(|kv| kv.map(pair));
    println!("event {:?} {kv:?} {previous:?}", event.event_type());
}

/// Prints the next events of a watch, so many.
async fn next(stream: &mut WatchStream, mut wanted: usize) -> Done {
    while wanted > 0 {
        let response = stream.message().await?.ok_or("the watch has ended")?;
        response.events().iter().for_each(tell);
        wanted -= response.events().len().min(wanted);
    }
    Ok(())
}

async fn watch(client: &mut Client) -> Done {
    println!("== watch");
    let prefix = || WatchOptions::new().with_prefix();
    let mut all = client.watch("watch/", Some(prefix().with_prev_key())).await?;
    let deletes = prefix().with_filters([WatchFilterType::NoPut]);
    let mut deletes = client.watch("watch/", Some(deletes)).await?;
    let first = client.put("watch/a", "1", None).await?.header().map_or(0, |header| header.revision());
    client.put("watch/a", "2", None).await?;
    client.delete("watch/a", None).await?;
    next(&mut all, 3).await?;
    next(&mut deletes, 1).await?;
    let mut past = client.watch("watch/", Some(prefix().with_start_revision(first))).await?;
    next(&mut past, 3).await?;
    all.request_progress().await?;
    let progress = all.message().await?.ok_or("no progress")?;
    println!("progress {:?} {}", progress.header().map(|header| header.revision()), progress.events().len());
    past.cancel(0).await?;
    println!(
        "canceled {:?}",
        past.message().await?.map(|last| (last.canceled(), last.cancel_reason().to_owned()))
    );
    Ok(())
}

/// The library ends a watch with its connection: the program goes on where it was.
async fn resume(client: &mut Client) -> Done {
    println!("== resume");
    let mut revision = 0;
    for number in 0..3 {
        let key = format!("resume/{number}");
        // The connection that broke shows in a call.
        while let Err(error) = client.get(key.clone(), None).await {
            println!("# {error}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let put = client.put(key, "", None).await?.header().map_or(0, |header| header.revision());
        if revision > 0 {
            let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
            next(&mut client.watch("resume/", Some(options)).await?, 1).await?;
        }
        revision = put;
        if number < 2 {
            ask("restart")?;
        }
    }
    Ok(())
}

async fn compaction(client: &mut Client) -> Done {
    println!("== compaction");
    let revision = client.put("compaction", "", None).await?.header().map_or(0, |header| header.revision());
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await?;
    println!("refused {:?}", client.compact(revision, None).await.err().map(|error| error.to_string()));
    let old = client.get("compaction", Some(GetOptions::new().with_revision(revision - 1))).await;
    println!("refused {:?}", old.err().map(|error| error.to_string()));
    let mut late = client.watch("compaction", Some(WatchOptions::new().with_start_revision(2))).await?;
    let _created = late.message().await?;
    let ended = late.message().await?.ok_or("the watch has ended")?;
    println!("late {} {}", ended.canceled(), ended.compact_revision() == revision);
    Ok(())
}

async fn maintenance(client: &mut Client) -> Done {
    println!("== maintenance");
    let status = client.status().await?;
    println!("status {} {:?} {}", status.version(), status.errors(), status.db_size() > 0);
    let hash = client.hash_kv(0).await?;
    println!("hash {} {}", hash.hash() != 0, hash.compact_version());
    client.defragment().await?;
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    println!("alarms {}", alarms.alarms().len());
    let members = client.member_list().await?;
    println!(
        "members {:?}",
        members.members().iter().map(|member| member.name().to_owned()).collect::<Vec<_>>()
    );
    Ok(())
}

async fn snapshot(client: &mut Client) -> Done {
    println!("== snapshot");
    let mut stream = client.snapshot().await?;
    let mut file = Vec::new();
    while let Some(piece) = stream.message().await? {
        file.extend_from_slice(piece.blob());
    }
    let (body, sum) = file.split_at(file.len() - 32);
    println!("snapshot {}", Sha256::digest(body)[..] == *sum);
    Ok(())
}
