#pragma once
// What a process can give up for good before it does what strangers want of it: files (Landlock)
// and system calls (seccomp). Both are built first and take effect in restrict_self. Which files
// and which calls stands in the tables of those who use it.

#include <linux/filter.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "pretrained/base/export.h"
#include "pretrained/base/files.h"

namespace pretrained {

// Of this kernel's Landlock; 0: it has none.
PRETRAINED_API int landlock_version();

// All that this kernel's Landlock governs is refused: files, TCP, and abstract sockets and signals
// of other processes. But for the paths that are allowed, folders with all below.
class PRETRAINED_API FileRules {
 public:
  enum class Access {
    read,
    execute,      // and read
    read_write,   // of what is there
    all_regular,  // make and remove too, but no devices, sockets or pipes
  };
  FileRules();  // Error where the kernel has no Landlock
  void allow(const std::filesystem::path& path, Access access);
  int descriptor() const { return rules_.get(); }

 private:
  uint64_t governed_ = 0;
  FileDescriptor rules_;
};

// Of calls that are named twice the first counts. Other processors' calls end the process.
class PRETRAINED_API CallFilter {
 public:
  void allow(std::span<const int> calls);
  void refuse(std::span<const int> calls, int error);
  // The call passes where its argument, masked, is one of `values`; else EPERM.
  void allow_where(int call, int argument, uint64_t mask, std::span<const uint64_t> values);
  // What was not named; to be called last.
  void allow_others();
  void refuse_others();  // with EPERM
  CallFilter();
  const std::vector<sock_filter>& program() const { return code_; }

 private:
  void add(int code, uint32_t value, size_t yes = 0, size_t no = 0);
  void load(size_t offset);
  std::vector<sock_filter> code_;
};

struct Restriction {
  int file_rules = -1;
  sock_fprog calls = {};
};
PRETRAINED_API Restriction make_restriction(const FileRules& files, const CallFilter& calls);
// For all threads; what is restricted must live until then. System calls only, so that it may stand
// between fork and exec. 0, or an errno with the guard that failed ("Landlock", "seccomp").
PRETRAINED_API int restrict_self(const Restriction& restriction, const char** failed = nullptr);

}  // namespace pretrained
