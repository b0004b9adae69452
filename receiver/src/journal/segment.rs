use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem;

use super::Position;
use super::block::Block;
use super::frame::{END, HEADER_BYTES, Header, MAGIC};

/// One of the journal's files, in one of its lives.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) path: PathBuf,
    pub(super) salt: u32,
}

/// The file while it is open. Who has it open has its name, too, so that it is not used again meanwhile.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: Arc<Name>,
    pub(super) file: File,
    /// Frames end here. Beyond may stand what a write did not finish, and what the file held in a former life.
    written: AtomicU64,
}

/// A header, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) header: Header,
    pub(super) offset: u64,
}

/// What a walk over all frames of a segment found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The first position; `None` where there is no frame.
    pub(super) first: Option<Position>,
    /// Behind the last entry.
    pub(super) next: Position,
    /// The greatest that a frame tells.
    pub(super) trimmed_before: Position,
    /// Between two frames.
    pub(super) holes: Vec<Range<Position>>,
    /// Where the last whole frame ends.
    end: u64,
    /// What stands behind it and was not finished, or was damaged.
    pub(super) cut_bytes: u64,
}

/// What is searched at once for a frame behind damage.
const SEARCHED_BYTES: usize = 64 << 10;
/// A disk that cannot read says so for as much.
const PAGE_BYTES: usize = 4 << 10;
const EIO: i32 = 5;

impl Segment {
    /// A file with nothing in it that counts.
    pub(super) fn begin(name: Name, file: File) -> Self {
        Self {
            name: Arc::new(name),
            file,
            written: AtomicU64::new(0),
        }
    }

    pub(super) fn open(name: &Arc<Name>, written: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&name.path)?;
        Ok(Self {
            name: Arc::clone(name),
            file,
            written: AtomicU64::new(written),
        })
    }

    /// Bytes of frames.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Frames up to there can be read.
    pub(super) fn set_written(&self, end: u64) {
        self.written.store(end, Ordering::Release);
    }

    /// Whether somebody removed the file: what is written to it then is gone with the process.
    pub(super) fn is_removed(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() == 0)
    }

    /// The frame at `offset`, or behind the damage there the next one whose first position is `at_least`.
    pub(super) fn find(&self, offset: u64, at_least: Position) -> io::Result<Option<Found>> {
        match self.header(offset)? {
            Some(header) => Ok(Some(Found { header, offset })),
            None => self.search(offset + 1, at_least),
        }
    }

    fn header(&self, offset: u64) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        if offset + HEADER_BYTES as u64 > self.written() || !read_at(&self.file, &mut bytes, offset)? {
            return Ok(None);
        }
        let header = Header::parse(&bytes, self.name.salt);
        Ok(header.filter(|header| offset + header.frame_bytes() <= self.written()))
    }

    fn search(&self, from: u64, at_least: Position) -> io::Result<Option<Found>> {
        let end = self.written();
        if from + HEADER_BYTES as u64 > end {
            return Ok(None); // the end of the frames, as a rule, and no damage
        }
        let mut bytes = vec![0; SEARCHED_BYTES];
        let mut from = from;
        while from + (HEADER_BYTES as u64) <= end {
            let many = SEARCHED_BYTES.min((end - from) as usize);
            read_at(&self.file, &mut bytes[..many], from)?;
            for place in memmem::find_iter(&bytes[..many], &MAGIC) {
                let offset = from + place as u64;
                if let Some(header) = self.header(offset)?.filter(|header| header.first >= at_least) {
                    return Ok(Some(Found { header, offset }));
                }
            }
            from += (many - (MAGIC.len() - 1)) as u64; // one may begin at the end of what was searched
        }
        Ok(None)
    }

    /// What is stored there; `None` where it is damaged.
    pub(super) fn stored(&self, found: &Found) -> io::Result<Option<Vec<u8>>> {
        let mut stored = vec![0; found.header.stored_bytes()];
        read_at(&self.file, &mut stored, found.offset + HEADER_BYTES as u64)?;
        Ok(found.header.is_whole(&stored, self.name.salt).then_some(stored))
    }

    /// The block there. One that is damaged is said aloud and is `None`: it is the reader who knows what is missing,
    /// by the positions.
    pub(super) fn block(&self, found: &Found) -> io::Result<Option<Block>> {
        let Header { first, count, .. } = found.header;
        let block = self.stored(found)?.map(|stored| found.header.block(stored));
        match block {
            Some(Ok(block)) => return Ok(Some(block)),
            Some(Err(error)) => tracing::error!(first, count, %error, "a block cannot be read, its records are lost"),
            None => tracing::error!(first, count, "a block is damaged, its records are lost"),
        }
        Ok(None)
    }

    /// Its first frame, as far as the file was written in any life.
    pub(super) fn first(&self) -> io::Result<Option<Position>> {
        self.set_written(self.file.metadata()?.len());
        Ok(self.find(0, 0)?.map(|found| found.header.first))
    }

    /// Walks over all frames, proves that they are whole, and ends the segment behind the last one. Positions never
    /// go back in a segment. Frames that end beyond `until` are given up: nobody was told of them.
    pub(super) fn scan(&self, until: Position) -> io::Result<Scan> {
        let length = self.file.metadata()?.len();
        self.set_written(length);
        let mut scan = Scan::default();
        let mut offset = 0;
        while let Some(found) = self.find(offset, scan.next)? {
            let header = found.header;
            if header.first < scan.next || header.end() > until {
                break;
            }
            offset = found.offset + header.frame_bytes();
            if self.stored(&found)?.is_some() {
                if scan.first.is_some() && header.first > scan.next {
                    scan.holes.push(scan.next..header.first);
                }
                scan.first.get_or_insert(header.first);
                scan.next = header.end();
                scan.trimmed_before = scan.trimmed_before.max(header.trimmed_before);
                scan.end = offset;
            }
        }
        scan.cut_bytes = self.unfinished(scan.end, length)?;
        self.set_written(scan.end);
        Ok(scan)
    }

    /// How much stands at the end that is no end. As far as its header tells.
    fn unfinished(&self, end: u64, length: u64) -> io::Result<u64> {
        let mut bytes = END;
        if end + END.len() as u64 <= length {
            read_at(&self.file, &mut bytes, end)?;
        } else {
            read_at(&self.file, &mut bytes[..(length - end) as usize], end)?;
        }
        if bytes == END {
            return Ok(0);
        }
        let mut header = [0; HEADER_BYTES];
        let whole = end + HEADER_BYTES as u64 <= length && read_at(&self.file, &mut header, end)?;
        let frame = whole.then(|| Header::parse(&header, self.name.salt)).flatten();
        let frame_bytes = frame.map_or(HEADER_BYTES as u64, |header| header.frame_bytes());
        Ok(frame_bytes.min(length - end))
    }
}

/// What cannot be read is zeros: damage, like any other. False where there is nothing any more.
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<bool> {
    let mut done = 0;
    while done < bytes.len() {
        let place = offset + done as u64;
        match file.read_at(&mut bytes[done..], place) {
            Ok(0) => {
                bytes[done..].fill(0);
                return Ok(done > 0);
            }
            Ok(many) => done += many,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(EIO) => {
                let page_left = PAGE_BYTES - place as usize % PAGE_BYTES;
                let unreadable = page_left.min(bytes.len() - done);
                // As one piece it may fail for what comes later, so a page is tried for itself.
                if file.read_exact_at(&mut bytes[done..done + unreadable], place).is_err() {
                    bytes[done..done + unreadable].fill(0);
                }
                done += unreadable;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::frame::Frames;
    use super::*;

    const SALT: u32 = 7;

    struct Written {
        segment: Segment,
        ends: Vec<u64>,
    }

    fn name(salt: u32) -> Name {
        Name {
            path: PathBuf::new(),
            salt,
        }
    }

    /// Blocks of one entry each, one after the other.
    fn written(blocks: u64) -> Written {
        let file = tempfile::tempfile().expect("a temporary file");
        let (mut ends, mut end) = (Vec::new(), 0);
        for first in 0..blocks {
            let entry = format!("the entry at {first} ").repeat(20);
            let block = Block::encode(first, std::iter::once(entry.as_bytes()));
            let frame = Frames::default().make(Some(&block), first, first / 2, SALT).to_vec();
            file.write_all_at(&frame, end).expect("written");
            end += (frame.len() - END.len()) as u64;
            ends.push(end);
        }
        let segment = Segment::begin(name(SALT), file);
        Written { segment, ends }
    }

    #[test]
    fn a_scan_ends_behind_the_last_whole_frame_and_tells_what_was_not_finished() {
        for cut in 0..60 {
            let Written { segment, ends } = written(4);
            let length = ends[3] + END.len() as u64 - cut;
            segment.file.set_len(length).expect("cut");
            let scan = segment.scan(Position::MAX).expect("scanned");
            let whole = if cut <= END.len() as u64 { 4 } else { 3 };
            assert_eq!((scan.first, scan.next), (Some(0), whole), "{cut}");
            assert_eq!(segment.written(), ends[whole as usize - 1], "{cut}");
            let rest = length.saturating_sub(ends[2]);
            assert_eq!(scan.cut_bytes, if whole == 4 { 0 } else { rest }, "{cut}");
        }
    }

    #[test]
    fn a_scan_passes_over_damage_of_any_byte_and_loses_one_frame_at_most() {
        let Written { segment, ends } = written(5);
        for place in 0..ends[4] {
            let mut byte = [0];
            segment.file.read_exact_at(&mut byte, place).expect("read");
            segment.file.write_all_at(&[byte[0] ^ 0x40], place).expect("written");

            let scan = segment.scan(Position::MAX).expect("scanned");
            let hit = ends.iter().filter(|end| **end <= place).count() as u64;
            let first = if hit == 0 { 1 } else { 0 };
            let next = if hit == 4 { 4 } else { 5 };
            assert_eq!((scan.first, scan.next), (Some(first), next), "{place}");
            let behind = segment.find(0, 0).expect("read").map(|found| found.header.first);
            assert!(behind.is_some_and(|first| first < 2), "{place}");

            segment.file.write_all_at(&byte, place).expect("written");
        }
    }

    #[test]
    fn frames_of_a_former_life_and_those_beyond_what_was_told_are_none() {
        let Written { segment, ends } = written(4);
        assert_eq!(segment.scan(3).expect("scanned").next, 3);
        assert_eq!(segment.written(), ends[2]);

        let again = Segment::begin(name(SALT + 1), segment.file);
        assert_eq!(again.scan(Position::MAX).expect("scanned").first, None);
        assert_eq!(again.first().expect("read"), None);
    }
}
