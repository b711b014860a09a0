//! Memory for a guest that lives for one decision: handed out one after the other, and never taken back but for what was
//! handed out last.
//!
//! The host throws the whole instance away afterwards, so whatever a general allocator does to find room again is lost
//! work: with std's a typical decision took half as long again, and 10 KB more code. Blocks begin in what the module's
//! first memory has left over, since growing is the dearest thing that a decision can do.
#![expect(unsafe_code, reason = "an allocator deals in raw memory")]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::Cell;
use core::ptr;

const PAGE: usize = 64 * 1024;

#[global_allocator]
static ALLOCATOR: Bump = Bump { next: Cell::new(0), end: Cell::new(0) };

struct Bump {
    /// Where the next block goes; 0 before the first.
    next: Cell<usize>,
    /// Where the memory ends.
    end: Cell<usize>,
}

// SAFETY: a policy has one thread: its target has no others.
unsafe impl Sync for Bump {}

unsafe extern "C" {
    /// Where the linker's own data ends.
    static __heap_base: u8;
}

impl Bump {
    /// Makes `end` lie within the memory. False: the host refuses.
    fn reach(&self, end: usize) -> bool {
        if end <= self.end.get() {
            return true;
        }
        let mut have = memory_size::<0>() * PAGE;
        if end > have {
            // Doubling would waste what the host limits; a few pages at a time do.
            let pages = (end - have).div_ceil(PAGE).max(4);
            if memory_grow::<0>(pages) == usize::MAX {
                return false;
            }
            have += pages * PAGE;
        }
        self.end.set(have);
        true
    }
}

// SAFETY: blocks lie between `__heap_base` and the memory's end, begin where their alignment wants, and do not overlap:
// `next` moves back only over the block that was handed out last.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut next = self.next.get();
        if next == 0 {
            next = (&raw const __heap_base) as usize;
        }
        let start = next.next_multiple_of(layout.align());
        match start.checked_add(layout.size()) {
            Some(end) if self.reach(end) => {
                self.next.set(end);
                start as *mut u8
            }
            _ => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if block as usize + layout.size() == self.next.get() {
            self.next.set(block as usize);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let is_last = block as usize + layout.size() == self.next.get();
        if is_last {
            return match (block as usize).checked_add(size) {
                Some(end) if self.reach(end) => {
                    self.next.set(end);
                    block
                }
                _ => ptr::null_mut(),
            };
        }
        if size <= layout.size() {
            return block;
        }
        // SAFETY: the caller's layout is valid and so is one of its alignment; the old block holds `layout.size()` bytes
        // and the new one is another and larger.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size());
            }
            new
        }
    }
}
