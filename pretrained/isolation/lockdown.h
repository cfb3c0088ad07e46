#pragma once
// Takes from this process all that a model does not need to compute: for ever, for every thread.

#include <cstdint>

namespace pretrained::isolation {

// Before any other thread exists: Error where there is one. Afterwards:
//   files      none can be opened but the descriptions of the processor and random numbers
//              (Landlock), nor be seen, where user namespaces are allowed (an empty root)
//   network    no socket can be made
//   processes  none can be started, seen, signalled or traced
//   system     only what computing needs: memory, threads, clocks, the open descriptors (seccomp;
//              anything else fails with EPERM)
//   memory     at most `memory_bytes` of address space (0: as much as the machine has memory), no
//              core files, nothing written to disk
// Throws Error naming the guard that this kernel lacks.
void lock_down(uint64_t memory_bytes);

}  // namespace pretrained::isolation
