//! `walctl repair`: cuts a torn tail and nothing else, and keeps a copy of what it changes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ketch_wal::{OpenError, Options, RealDisk, Tail, Wal};

use crate::Failure;
use crate::args::Args;
use crate::verify::{look, tail_text};

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let dir = args.dir()?;
    let opened = look(&dir).map_err(|error| match error {
        OpenError::Damage(damage) => Failure::Failed(format!(
            "{damage}; this is no torn tail: a repair would lose records that were acknowledged. Restore \
             the log from a copy, or the member from the others"
        )),
        error => Failure::Failed(error.to_string()),
    })?;
    let recovery = opened.recovery.clone();
    let Tail::Torn { segment, offset, .. } = recovery.tail else {
        println!("the log is {}: there is nothing to repair", tail_text(&recovery));
        return Ok(());
    };
    println!("the log is {}", tail_text(&recovery));
    println!(
        "nothing in the log proves that a sync was reported as done that covers what would be cut: segment {segment} from {offset} on, \
         and later segments; a flipped bit in the last batches looks the same"
    );
    if !args.is_set("yes") {
        return Err(Failure::Refused("nothing was changed: say --yes to cut".to_owned()));
    }
    let metadata = recovery.metadata.clone();
    drop(opened);
    let copy = args.text("copy").map_or_else(|| beside(&dir), PathBuf::from);
    keep(&dir, &copy, segment.0)?;
    println!("kept a copy of the files from segment {segment} on in {}", copy.display());
    let options = Options { metadata, spare_segments: 0, ..Options::default() };
    let wal = Wal::open(Arc::new(RealDisk), &dir, options)?.wal;
    wal.close()?;
    println!("cut; the log is {}", tail_text(&look(&dir)?.recovery));
    Ok(())
}

/// A folder next to the log that does not exist yet.
fn beside(dir: &Path) -> PathBuf {
    let name = dir.file_name().map_or_else(|| "log".to_owned(), |name| name.to_string_lossy().into_owned());
    (1..)
        .map(|n| dir.with_file_name(format!("{name}.before-repair-{n}")))
        .find(|path| !path.exists())
        .unwrap_or_default()
}

fn keep(dir: &Path, copy: &Path, from: u64) -> Result<(), Failure> {
    fs::create_dir(copy)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| u64::from_str_radix(name.strip_suffix(".wal")?, 16).ok());
        if number.is_some_and(|number| number >= from) {
            let to = copy.join(&name);
            fs::copy(entry.path(), &to)?;
            File::open(&to)?.sync_all()?;
        }
    }
    // The copy is durable, its name too, before anything is cut.
    let above = fs::canonicalize(copy)?.parent().map(Path::to_owned);
    for dir in [Some(copy.to_owned()), above].into_iter().flatten() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}
