//! Reads every message of an MCAP file with the `mcap` crate, raw: chunks decompressed, their CRCs
//! checked as the crate does by default, nothing decoded. For each line on standard input it reads
//! the file once more and prints: messages, bytes of their payloads, CPU seconds.

use std::io::BufRead;
use std::{env, error::Error, fs::File, io};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: mcap_raw FILE")?;
    let file = File::open(path)?;
    // Safety: nobody changes the file while it is mapped.
    let mapped = unsafe { memmap2::Mmap::map(&file)? };
    for line in io::stdin().lock().lines() {
        line?;
        let start = cpu_seconds();
        let (mut messages, mut bytes) = (0u64, 0u64);
        for message in mcap::read::RawMessageStream::new(&mapped)? {
            messages += 1;
            bytes += message?.data.len() as u64;
        }
        println!("{messages} {bytes} {:.6}", cpu_seconds() - start);
    }
    Ok(())
}

/// CPU time of this process so far, of all its threads.
fn cpu_seconds() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Safety: `now` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}
