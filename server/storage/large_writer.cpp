#include "server/storage/large_writer.h"

#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

namespace pretrained::server {
namespace {

constexpr size_t kBlock = 4096;  // what direct writing wants memory, offset and size to be of
constexpr size_t kSmallest = 256 << 10, kLargest = 4 << 20;
constexpr size_t kMemory = 64 << 20;  // of all writers together, as long as they are not too many
std::atomic<size_t> writers = 0;

size_t piece_size() {
  size_t fair = kMemory / 2 / ++writers;  // two pieces each
  return std::clamp(fair / kBlock * kBlock, kSmallest, kLargest);
}

void set_direct(int fd, bool direct) {
  int flags = fcntl(fd, F_GETFL);
  fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT);  // or it stays as it is
}

}  // namespace

LargeWriter::LargeWriter() : piece_size_(piece_size()) {}

LargeWriter::~LargeWriter() {
  if (sending_.valid()) sending_.wait();
  --writers;
}

void LargeWriter::wait() {
  if (sending_.valid()) sending_.get();
}

void LargeWriter::begin(StagedBlob blob) {
  set_direct(blob.fd(), true);
  blob_ = std::move(blob);
  filled_ = 0;
}

void LargeWriter::write(std::string_view bytes) {
  while (!bytes.empty()) {
    if (!filling_) filling_.reset(static_cast<char*>(std::aligned_alloc(kBlock, piece_size_)));
    if (!filling_) throw std::bad_alloc();
    size_t size = std::min(bytes.size(), piece_size_ - filled_);
    std::memcpy(filling_.get() + filled_, bytes.data(), size);
    bytes.remove_prefix(size);
    filled_ += size;
    if (filled_ == piece_size_) send();
  }
}

void LargeWriter::send() {
  wait();
  std::swap(filling_, sent_);
  sending_ = std::async(std::launch::async, [this, size = std::exchange(filled_, 0)] {
    blob_->write({sent_.get(), size});
  });
}

StagedBlob LargeWriter::finish() {
  wait();
  size_t whole = filled_ / kBlock * kBlock;
  blob_->write({filling_.get(), whole});
  set_direct(blob_->fd(), false);
  blob_->write({filling_.get() + whole, filled_ - whole});
  filled_ = 0;
  StagedBlob blob = std::move(*blob_);
  blob_.reset();
  return blob;
}

}  // namespace pretrained::server
