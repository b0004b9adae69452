//! Steps 2 to 6 of a callback's path, as often as asked, and nothing else: for counting instructions, which do not depend on
//! what else the machine does. `receiver/benches/instructions` runs it.
//!
//!     cargo bench -p portcullis-receiver --bench path -- 1000

#[path = "path/callbacks.rs"]
mod callbacks;

use std::hint::black_box;

use callbacks::Path;
use portcullis_schema::Timestamp;

fn main() {
    let asked = std::env::args()
        .filter_map(|argument| argument.parse::<u64>().ok())
        .next();
    // A moment of its own: the same instructions on every day.
    let path = Path::new(1_000, Timestamp::from_micros(1_800_000_000_000_000));
    let requests = path.requests();
    for request in requests.iter().cycle().take(asked.unwrap_or(1_000) as usize) {
        black_box(path.answer(black_box(request)));
    }
}
