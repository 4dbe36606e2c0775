//! The segments that the walk for the end did not go through: they were complete before a later one was begun, so all of them are durable.

use std::collections::BTreeSet;
use std::io;

use crate::error::OpenError;
use crate::folder::{Folder, SegmentFile};
use crate::format::{HEADER_BYTES, KIND_COMMIT, NEXT_NONE, PART_BYTES, PartEnd};
use crate::layout::Layout;
use crate::options::Verify;
use crate::position::Position;
use crate::recovery::{damage, missing, read_error};
use crate::scan::Found;
use crate::walk::{Stop, Walk};

/// Checks those segments of the layout; gives the bytes read for it.
pub(crate) fn verify_rest(
    folder: &mut Folder,
    layout: &Layout,
    walked: &[u64],
    tail: &Walk,
    verify: Verify,
) -> Result<u64, OpenError> {
    let walked: BTreeSet<u64> = walked.iter().copied().collect();
    let mut bytes_read = 0;
    let mut linked: Option<(u64, Walk)> = None;
    for &id in &layout.segments {
        let Some(file) = folder.segments.get_mut(&id) else {
            return Err(missing(id, "the log's layout names it"));
        };
        let link = linked.take().filter(|(next, _)| *next == id).map(|(_, walk)| walk);
        if walked.contains(&id) {
            if let Some(before) = link
                && before.sequence != tail.first_sequence
            {
                let at = Position::new(id, HEADER_BYTES);
                return Err(OpenError::Damage(damage(
                    at,
                    "the next batch",
                    "a later one",
                    "the order of batches",
                )));
            }
            continue;
        }
        if let Some((next, walk)) = &file.whole
            && link.as_ref().is_none_or(|before| before.sequence == walk.first_sequence)
        {
            linked = Some((*next, walk.clone()));
            continue;
        }
        if verify == Verify::Tail && sealed_end(file).map_err(read_error(file))? {
            bytes_read += HEADER_BYTES;
            continue;
        }
        let mut walk = link.unwrap_or_default();
        let mut scanner = file.scanner();
        let stop = walk.segment(&mut scanner, id, file.seed(), HEADER_BYTES).map_err(read_error(file))?;
        bytes_read += scanner.bytes_read;
        match stop {
            Stop::Next { next, end, footer } => {
                (file.end, file.footer, file.sealed) = (end, footer, true);
                file.whole = Some((next, walk.clone()));
                linked = Some((next, walk));
            }
            Stop::Missing => {}
            Stop::Bad { offset, found } => {
                let proof = "the log goes on in a later segment, which was begun after this one was complete";
                let at = Position::new(id, offset);
                return Err(OpenError::Damage(damage(at, "the next frame of the log", found, proof)));
            }
        }
    }
    Ok(bytes_read)
}

/// Reads the end of a sealed segment from the last bytes of its file, if it is there.
fn sealed_end(file: &mut SegmentFile) -> io::Result<bool> {
    if file.header.filled {
        return Ok(false);
    }
    let Some(offset) = file.len.checked_sub(PART_BYTES as u64).filter(|offset| *offset >= HEADER_BYTES)
    else {
        return Ok(false);
    };
    let Found::Frame(frame) = file.scanner().frame(file.seed(), offset)? else { return Ok(false) };
    if frame.header.kind != KIND_COMMIT {
        return Ok(false);
    }
    let end = PartEnd::decode(&frame.payload());
    if end.next == NEXT_NONE {
        return Ok(false);
    }
    (file.end, file.footer, file.sealed) = (file.len, u64::from(end.footer), true);
    Ok(true)
}
