//! `walctl verify`: every frame, and how the log ends.

use std::path::Path;
use std::sync::Arc;

use ketch_wal::{OpenError, Opened, Options, Position, RealDisk, Recovery, Tail, Wal};

use crate::Failure;
use crate::args::{Args, quote};

/// Opens without changing anything, reading every frame.
pub(crate) fn look(dir: &Path) -> Result<Opened, OpenError> {
    Wal::open(Arc::new(RealDisk), dir, Options { read_only: true, ..Options::default() })
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let json = args.is_set("json");
    let opened = look(&args.dir()?).inspect_err(|error| {
        if json {
            println!("{{\"ok\":false,\"error\":{}}}", quote(&error.to_string()));
        }
    })?;
    let (mut records, mut bytes) = (0u64, 0u64);
    for record in opened.wal.iter(Position::START) {
        bytes += record?.data.len() as u64;
        records += 1;
    }
    print(&opened.recovery, records, bytes, json);
    match opened.recovery.tail {
        Tail::Clean => Ok(()),
        Tail::Torn { .. } => {
            Err(Failure::Refused("the tail is torn: opening the log for writing cuts it".to_owned()))
        }
    }
}

/// The end of a log in words.
pub(crate) fn tail_text(recovery: &Recovery) -> String {
    match recovery.tail {
        Tail::Clean if recovery.closed => "clean, closed".to_owned(),
        Tail::Clean => "clean".to_owned(),
        Tail::Torn { segment, offset, cut_bytes } => {
            format!("torn in segment {segment} at offset {offset}, {cut_bytes} bytes behind it")
        }
    }
}

fn print(recovery: &Recovery, records: u64, bytes: u64, json: bool) {
    let Recovery { first, end, known_durable, segments, bytes_read, foreign, .. } = recovery;
    let tail = tail_text(recovery);
    if json {
        println!(
            "{{\"ok\":{},\"tail\":{},\"records\":{records},\"data_bytes\":{bytes},\"segments\":{segments},\
             \"first\":\"{first}\",\"end\":\"{end}\",\"known_durable\":\"{known_durable}\",\"bytes_read\":{bytes_read}}}",
            recovery.tail == Tail::Clean,
            quote(&tail),
        );
        return;
    }
    println!("tail           {tail}");
    println!("records        {records}, {bytes} bytes of data");
    println!("segments       {segments}, from {first} to {end}");
    println!("known durable  up to {known_durable}");
    for path in foreign {
        println!("not the log's  {}", path.display());
    }
}
