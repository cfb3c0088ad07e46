#include "pretrained/xet/hashing.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/sha256.h"
#include "pretrained/xet/blake3.h"
#include "pretrained/xet/chunker.h"

namespace pretrained::xet {
namespace {

// Read, cut, hashed and added to the SHA-256 while it lies in the second-level cache; longer than
// any chunk.
constexpr size_t kBlock = 256 << 10;
static_assert(kBlock >= kMaxChunk);
constexpr int kMaxThreads = 64;

// What both ways of hashing collect.
struct Results {
  explicit Results(bool keep) : keep_chunks(keep) {}
  void add(const ChunkSize& chunk) {
    tree.add(chunk.hash, chunk.size);
    if (keep_chunks) chunks.push_back(chunk);
  }
  FileHashes finish(Sha256* sha256) {
    return {tree.file_hash(), tree.size(), sha256 ? sha256->hex() : "", std::move(chunks)};
  }
  bool keep_chunks;
  Merkle tree;
  std::vector<ChunkSize> chunks;
};

struct Block {
  std::unique_ptr<char[]> data{new char[kBlock]};
  uint64_t begin = 0;
  size_t size = 0;
  std::string_view view() const { return {data.get(), size}; }
};
using BlockRef = std::shared_ptr<Block>;  // copied and dropped under the pipeline's lock only

// The chunks that end in one block; the first may begin in the block before.
struct Job {
  BlockRef before, block;
  uint64_t begin = 0;
  std::vector<uint64_t> ends;
  std::vector<ChunkSize> chunks;
  bool done = false;

  void run() {
    Blake3 hasher(Blake3::Key::data);
    chunks.reserve(ends.size());
    for (uint64_t end : ends) {
      hasher.reset();
      if (begin < block->begin) hasher.update(before->view().substr(begin - before->begin));
      uint64_t from = std::max(begin, block->begin);
      hasher.update(block->view().substr(from - block->begin, end - from));
      chunks.push_back({hasher.finish(), end - begin});
      begin = end;
    }
  }
};

// Several threads on one file. Each takes what can be done now: the SHA-256, which is the longest
// chain, before chunks, chunks before cutting and reading more.
class Pipeline {
 public:
  Pipeline(const ByteReader& read, const HashOptions& options, int threads)
      : read_(read), threads_(threads), results_(options.chunks) {
    if (options.sha256) sha256_.emplace();
    for (int i = 0; i < 2 * threads + 2; ++i) blocks_.push_back(std::make_shared<Block>());
  }

  FileHashes run() {
    {
      std::vector<std::jthread> helpers;
      for (int i = 1; i < threads_; ++i) helpers.emplace_back([this] { work(); });
      work();
    }
    if (error_) std::rethrow_exception(error_);
    return results_.finish(sha256_ ? &*sha256_ : nullptr);
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (!error_) {
      try {
        if (!sha256_waiting_.empty() && !sha256_busy_)
          add_to_sha256(lock);
        else if (!waiting_.empty())
          hash_chunks(lock);
        else if (!uncut_.empty() && !cutting_)
          cut_block(lock);
        else if (BlockRef block; !at_end_ && !reading_ && (block = free_block()))
          read_block(lock, std::move(block));
        else if (at_end_ && uncut_.empty() && !cutting_ && order_.empty() &&
                 sha256_waiting_.empty() && !sha256_busy_)
          return;
        else {
          changed_.wait(lock);
          continue;
        }
      } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        if (!error_) error_ = std::current_exception();
      }
      changed_.notify_all();
    }
  }

  BlockRef free_block() {
    auto found = std::ranges::find_if(blocks_, [](auto& block) { return block.use_count() == 1; });
    return found == blocks_.end() ? nullptr : *found;
  }

  void read_block(std::unique_lock<std::mutex>& lock, BlockRef block) {
    reading_ = true;
    lock.unlock();
    block->begin = read_size_;
    block->size = read_(block->data.get(), kBlock);
    lock.lock();
    reading_ = false;
    read_size_ += block->size;
    at_end_ = block->size < kBlock;
    if (sha256_) sha256_waiting_.push_back(block);
    uncut_.push_back(std::move(block));
  }

  void cut_block(std::unique_lock<std::mutex>& lock) {
    cutting_ = true;
    auto job = std::make_shared<Job>();
    job->before = std::move(last_);
    job->block = last_ = std::move(uncut_.front());
    uncut_.pop_front();
    bool at_end = at_end_ && uncut_.empty();
    lock.unlock();
    job->begin = chunker_.start();
    chunker_.feed(job->block->view(), job->ends);
    if (at_end) chunker_.finish(job->ends);
    lock.lock();
    cutting_ = false;
    order_.push_back(job);
    waiting_.push_back(std::move(job));
  }

  void hash_chunks(std::unique_lock<std::mutex>& lock) {
    auto job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    job->run();
    lock.lock();
    job->done = true;
    job->before = job->block = nullptr;
    for (; !order_.empty() && order_.front()->done; order_.pop_front())
      for (auto& chunk : order_.front()->chunks) results_.add(chunk);
  }

  void add_to_sha256(std::unique_lock<std::mutex>& lock) {
    sha256_busy_ = true;
    BlockRef block = std::move(sha256_waiting_.front());
    sha256_waiting_.pop_front();
    lock.unlock();
    sha256_->update(block->view());
    lock.lock();
    block = nullptr;
    sha256_busy_ = false;
  }

  const ByteReader& read_;
  const int threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::exception_ptr error_;
  std::vector<BlockRef> blocks_;
  BlockRef last_;
  Chunker chunker_;         // of whoever set cutting_
  uint64_t read_size_ = 0;  // of whoever set reading_
  bool reading_ = false, cutting_ = false, at_end_ = false;
  std::deque<BlockRef> uncut_;
  std::deque<std::shared_ptr<Job>> order_, waiting_;  // not yet added; not yet begun
  std::deque<BlockRef> sha256_waiting_;
  bool sha256_busy_ = false;
  std::optional<Sha256> sha256_;
  Results results_;
};

}  // namespace

struct FileHasher::State {
  explicit State(const HashOptions& options) : results(options.chunks) {
    if (options.sha256) sha256.emplace();
  }

  void hash_up_to_ends(std::string_view bytes, uint64_t base) {
    for (uint64_t end : ends) {
      // The end of the file closes a chunk whose bytes are all hashed.
      std::string_view rest = bytes.substr(std::min(bytes.size(), size_t(hashed - base)));
      hasher.update(rest.substr(0, end - hashed));
      results.add({hasher.finish(), end - begin});
      hasher.reset();
      begin = hashed = end;
    }
    ends.clear();
  }

  void update(std::string_view bytes) {
    uint64_t base = chunker.size();
    chunker.feed(bytes, ends);
    hash_up_to_ends(bytes, base);
    hasher.update(bytes.substr(size_t(hashed - base)));
    hashed = base + bytes.size();
    if (sha256) sha256->update(bytes);
  }

  Chunker chunker;
  Blake3 hasher{Blake3::Key::data};
  std::vector<uint64_t> ends;
  uint64_t begin = 0, hashed = 0;  // of the open chunk; what `hasher` has seen
  std::optional<Sha256> sha256;
  Results results;
};

FileHasher::FileHasher(const HashOptions& options) : state_(new State(options)) {}
FileHasher::~FileHasher() = default;
FileHasher::FileHasher(FileHasher&&) noexcept = default;

void FileHasher::update(std::string_view bytes) {
  for (; bytes.size() > kBlock; bytes.remove_prefix(kBlock))
    state_->update(bytes.substr(0, kBlock));
  state_->update(bytes);
}

const std::vector<ChunkSize>& FileHasher::chunks() const { return state_->results.chunks; }

FileHashes FileHasher::finish() {
  uint64_t size = state_->chunker.size();
  state_->chunker.finish(state_->ends);
  state_->hash_up_to_ends({}, size);
  return state_->results.finish(state_->sha256 ? &*state_->sha256 : nullptr);
}

FileHashes hash_stream(const ByteReader& read, const HashOptions& options) {
  if (int threads = std::min(options.threads, kMaxThreads); threads > 1)
    return Pipeline(read, options, threads).run();
  FileHasher hasher(options);
  std::vector<char> buffer(kBlock);
  for (size_t size = kBlock; size == kBlock;) {
    size = read(buffer.data(), kBlock);
    hasher.update({buffer.data(), size});
  }
  return hasher.finish();
}

FileHashes hash_file(const std::filesystem::path& path, const HashOptions& options) {
  auto fail = [&](int error) {
    std::string message = path.string() + ": " + std::strerror(error);
    if (error == ENOENT || error == ENOTDIR) throw NotFoundError(message);
    throw IoError(message);
  };
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail(errno);
  auto read_full = [&](char* buffer, size_t size) {
    size_t filled = 0;
    while (filled < size) {
      ssize_t got = read(file.get(), buffer + filled, size - filled);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(errno);
      if (got == 0) break;
      filled += size_t(got);
    }
    return filled;
  };
  return hash_stream(read_full, options);
}

}  // namespace pretrained::xet
