//! Giving memory back to the system.
//!
//! Reading resources and compiling them takes several times what the result takes, in small pieces all
//! over the heap: the C library keeps what is freed, and it would stay resident for good. And half of the
//! program is only there to get it started.

use std::ffi::c_void;

/// Gives the pages of the heap that hold nothing back to the system. Takes milliseconds for 100 MB: for
/// moments when much has just been freed.
#[cfg(target_env = "gnu")]
pub(crate) fn give_back() {
    // SAFETY: takes no pointer, and locks the heaps while it looks at them (malloc_trim(3)).
    #[expect(unsafe_code, reason = "the C library's function has no safe wrapper")]
    let _released = unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give back by themselves, or cannot.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}

/// Lets go of the program's own pages, of which the start has read many that nobody reads again: the
/// command line, YAML, the loader of eBPF programs. Those that are wanted come back from the file one by
/// one, which costs a microsecond each while they are in the page cache.
pub(crate) fn forget_the_start() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for range in clean(&maps) {
        let (start, length) =
            (std::ptr::without_provenance_mut::<c_void>(range.start), range.len());
        // SAFETY: the mapping is of a file, nobody may write to it and none of its pages differs from the
        // file, so that what is read there later is what was there before (madvise(2)).
        #[expect(unsafe_code, reason = "advice for memory that Rust knows nothing of")]
        let _done = unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
}

/// The mappings of files in /proc/PID/smaps that are as the file is: read-only, and without a page of
/// their own. Relocated data are read-only as well, but are not what the file says.
fn clean(smaps: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = None;
    for line in smaps.lines() {
        if let Some(mapping) = mapping(line) {
            at = mapping.1.then_some(mapping.0);
        } else if line.strip_prefix("Anonymous:").is_some_and(|rest| rest.trim() == "0 kB") {
            found.extend(at.take());
        }
    }
    found
}

/// The head of a mapping: its addresses, and whether it is of a file and read-only.
fn mapping(line: &str) -> Option<(std::ops::Range<usize>, bool)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let parse = |text| usize::from_str_radix(text, 16).ok();
    let range = parse(start)?..parse(end)?;
    let permissions = words.next()?;
    let path = words.nth(3).unwrap_or_default();
    Some((range, matches!(permissions, "r-xp" | "r--p") && path.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c0000000-55d0c0001000 r--p 00000000 fe:00 12 /usr/sbin/egressd
Size:                  4 kB
Anonymous:             0 kB
55d0c0001000-55d0c0003000 r-xp 00001000 fe:00 12 /usr/sbin/egressd
Anonymous:             0 kB
VmFlags: rd ex mr mw me
55d0c0003000-55d0c0004000 r--p 00003000 fe:00 12 /usr/sbin/egressd
Anonymous:             4 kB
55d0c0004000-55d0c0005000 rw-p 00004000 fe:00 12 /usr/sbin/egressd
Anonymous:             0 kB
7f0000000000-7f0000001000 r--s 00000000 00:0f 3 anon_inode:bpf-map
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00000000 00:00 0
Anonymous:             0 kB
7fff00000000-7fff00001000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_as_the_file_is() {
        let expected = [0x55d0_c000_0000..0x55d0_c000_1000, 0x55d0_c000_1000..0x55d0_c000_3000];
        assert_eq!(clean(SMAPS), expected);
    }

    #[test]
    fn nothing_is_lost() {
        let before = std::fs::read("/proc/self/cmdline").unwrap();
        forget_the_start();
        give_back();
        assert_eq!(std::fs::read("/proc/self/cmdline").unwrap(), before);
        assert!(!clean(&std::fs::read_to_string("/proc/self/smaps").unwrap()).is_empty());
    }
}
