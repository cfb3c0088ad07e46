#include "pretrained/hub/part_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <sstream>

#include "pretrained/base/error.h"
#include "pretrained/base/sha256.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

using Ranges = std::map<uint64_t, uint64_t>;
// Waiting for the disk takes longer than fetching a small file. Where the power fails right after,
// it is there but empty, and whoever looks at sizes (download.cpp does) fetches it again.
constexpr uint64_t kUnsynced = 1 << 20;
constexpr uint64_t kJournalLimit = 64 << 20;

fs::path with_suffix(fs::path base, const char* suffix) {
  base += suffix;
  return base;
}

std::string line_of(const std::string& etag, uint64_t size, Range range) {
  std::string text = std::to_string(range.begin) + " " + std::to_string(range.end) + " ";
  return text + sha256_hex(etag + " " + std::to_string(size) + " " + text).substr(0, 16) + "\n";
}

void add(Ranges& ranges, Range range) {
  if (range.begin >= range.end) return;
  auto at = ranges.upper_bound(range.begin);
  if (at != ranges.begin() && std::prev(at)->second >= range.begin) {
    --at;
    range.begin = at->first;
  }
  while (at != ranges.end() && at->first <= range.end) {
    range.end = std::max(range.end, at->second);
    at = ranges.erase(at);
  }
  ranges[range.begin] = range.end;
}

// The lines that are whole, of this file, and whose bytes the part can hold.
Ranges read_ranges(const fs::path& journal, const fs::path& part, const std::string& etag,
                   uint64_t size) {
  Ranges ranges;
  struct stat status;
  if (lstat(part.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return ranges;
  std::string text;
  try {
    text = read_file(journal, kJournalLimit);
  } catch (const Error&) {
    return ranges;
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    Range range;
    auto* end = line.data() + line.size();
    auto [first, error] = std::from_chars(line.data(), end, range.begin);
    if (error != std::errc() || first == end) continue;
    if (std::from_chars(first + 1, end, range.end).ec != std::errc()) continue;
    bool fits =
        range.begin < range.end && range.end <= size && range.end <= uint64_t(status.st_size);
    if (fits && line + "\n" == line_of(etag, size, range)) add(ranges, range);
  }
  return ranges;
}

uint64_t total(const Ranges& ranges) {
  uint64_t sum = 0;
  for (auto& [begin, end] : ranges) sum += end - begin;
  return sum;
}

FileDescriptor open_own(const fs::path& path, int flags) {
  FileDescriptor file(open(path.c_str(), flags | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (file.get() < 0) throw_errno(path.string(), errno);
  struct stat status;
  if (fstat(file.get(), &status) != 0) throw_errno(path.string(), errno);
  // Another name of it may be somebody's file that is not to be written.
  if (!S_ISREG(status.st_mode) || status.st_nlink != 1)
    throw FormatError(path.string() + ": not a file of ours; remove it");
  return file;
}

}  // namespace

uint64_t bytes_in_part(const fs::path& base, const std::string& etag, uint64_t size) {
  return total(read_ranges(with_suffix(base, ".pretrained.ranges"),
                           with_suffix(base, ".pretrained.part"), etag, size));
}

void discard_part(const fs::path& base) {
  unlink(with_suffix(base, ".pretrained.ranges").c_str());
  unlink(with_suffix(base, ".pretrained.part").c_str());
}

PartFile::PartFile(fs::path base, std::string etag, uint64_t size)
    : part_(with_suffix(base, ".pretrained.part")),
      ranges_(with_suffix(base, ".pretrained.ranges")),
      etag_(std::move(etag)),
      size_(size),
      done_(read_ranges(ranges_, part_, etag_, size_)),
      hasher_(etag_, size_) {
  file_ = open_own(part_, O_RDWR);
  resumed_ = !done_.empty();
  if (!resumed_) restart();
}

uint64_t PartFile::done_bytes() const {
  std::lock_guard lock(mutex_);
  return total(done_);
}

std::vector<Range> PartFile::missing(uint64_t piece) const {
  std::lock_guard lock(mutex_);
  std::vector<Range> pieces;
  uint64_t at = 0;
  auto fill = [&](uint64_t end) {
    for (; at < end; at += std::min(piece, end - at))
      pieces.push_back({at, at + std::min(piece, end - at)});
  };
  for (auto& [begin, end] : done_) {
    fill(begin);
    at = end;
  }
  fill(size_);
  return pieces;
}

void PartFile::write(uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t put = pwrite(file_.get(), bytes.data(), bytes.size(), off_t(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw_errno(part_.string(), errno);
    bytes.remove_prefix(size_t(put));
    offset += uint64_t(put);
  }
}

void PartFile::mark_done(Range range) {
  {
    std::lock_guard lock(mutex_);
    add(done_, range);
    // In one piece it is hashed and renamed right away.
    if (journal_.get() < 0 && total(done_) == size_) return;
    if (journal_.get() < 0) journal_ = open_own(ranges_, O_WRONLY | O_APPEND);
    std::string line = line_of(etag_, size_, range);
    if (::write(journal_.get(), line.data(), line.size()) != ssize_t(line.size()))
      throw_errno(ranges_.string(), errno);
  }
  // Let the disk begin: at the end there is less to wait for.
  sync_file_range(file_.get(), off_t(range.begin), off_t(range.size()), SYNC_FILE_RANGE_WRITE);
}

void PartFile::hash_until(uint64_t end) {
  std::vector<char> buffer(1 << 20);
  while (hashed_ < end) {
    ssize_t got = pread(file_.get(), buffer.data(),
                        std::min<uint64_t>(buffer.size(), end - hashed_), off_t(hashed_));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(part_.string(), errno);
    if (got == 0) throw IoError(part_.string() + ": somebody has made it shorter");
    hasher_.update({buffer.data(), size_t(got)});
    hashed_ += uint64_t(got);
  }
}

void PartFile::hash_ahead() {
  for (;;) {
    uint64_t end = 0;
    {
      std::lock_guard lock(mutex_);
      auto first = done_.begin();
      if (hashing_ || first == done_.end() || first->first != 0 || first->second <= hashed_) return;
      end = first->second;
      hashing_ = true;
    }
    hash_until(end);
    std::lock_guard lock(mutex_);
    hashing_ = false;
  }
}

std::string PartFile::hash() {
  hash_until(size_);
  return hasher_.hex();
}

void PartFile::move_to(const fs::path& target) {
  if (size_ > kUnsynced && fdatasync(file_.get()) != 0) throw_errno(part_.string(), errno);
  // Who is killed in between has a whole part to fetch again; the other way round the list would
  // stay for ever.
  unlink(ranges_.c_str());
  if (rename(part_.c_str(), target.c_str()) != 0) throw_errno(target.string(), errno);
}

void PartFile::restart() {
  std::lock_guard lock(mutex_);
  done_.clear();
  unlink(ranges_.c_str());
  journal_ = {};
  if (ftruncate(file_.get(), 0) != 0) throw_errno(part_.string(), errno);
  hasher_ = BlobHasher(etag_, size_);
  hashed_ = 0;
  resumed_ = false;
}

void PartFile::remove() {
  unlink(ranges_.c_str());
  unlink(part_.c_str());
}

}  // namespace pretrained::hub
