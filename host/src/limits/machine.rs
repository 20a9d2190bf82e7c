use std::fs;

/// What is taken for granted where the system does not say.
const MEMORY: usize = 8 << 30;
const FILES: usize = 1024;

/// What the machine has, and what of it this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    memory: usize,
    files: usize,
}

impl Machine {
    /// Asks Linux; elsewhere, and where an answer is missing, it is 8 GiB and 1024 files.
    pub(super) fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/meminfo"), &read("/sys/fs/cgroup/memory.max"), &read("/proc/self/limits"))
    }

    fn parse(meminfo: &str, cgroup: &str, limits: &str) -> Self {
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).and_then(first_number);
        let total = total.and_then(|kib| kib.checked_mul(1024)).unwrap_or(MEMORY);
        // "max" where there is none.
        let group = first_number(cgroup).unwrap_or(usize::MAX);
        // The soft limit comes first; "unlimited" is more than anybody has sockets.
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).map(str::trim_start);
        let files = files.map(|soft| first_number(soft).unwrap_or(usize::MAX));
        Self { memory: total.min(group), files: files.unwrap_or(FILES) }
    }

    /// The node's share: an eighth of the memory, half of the files. The rest is the program's.
    pub(super) fn share(self) -> (usize, usize) {
        (self.memory / 8, self.files / 2)
    }
}

fn first_number(text: &str) -> Option<usize> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says() {
        let meminfo = "MemTotal:       16315172 kB\nMemFree:          339828 kB\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        let machine = Machine::parse(meminfo, "max\n", limits);
        assert_eq!(machine, Machine { memory: 16_315_172 * 1024, files: 1024 });
        assert_eq!(machine.share(), (16_315_172 * 128, 512));
        assert_eq!(Machine::parse(meminfo, "536870912\n", limits).memory, 512 << 20);
    }

    #[test]
    fn what_is_not_said_is_assumed() {
        assert_eq!(Machine::parse("", "", ""), Machine { memory: MEMORY, files: FILES });
        let endless = "Max open files            unlimited            unlimited            files     \n";
        assert_eq!(Machine::parse("MemTotal: much", "", endless).files, usize::MAX);
    }
}
