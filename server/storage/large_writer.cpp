#include "server/storage/large_writer.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

namespace pretrained::server {
namespace {

constexpr size_t kBlock = StagedBlob::kBlock;
constexpr size_t kSmallest = 256 << 10, kLargest = 4 << 20;
constexpr size_t kMemory = 64 << 20;  // of all writers together, as long as they are not too many
std::atomic<size_t> writers = 0;

size_t piece_size() {
  size_t fair = kMemory / 2 / ++writers;  // two pieces each
  return std::clamp(fair / kBlock * kBlock, kSmallest, kLargest);
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
  blob.bypass_cache(true);
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
  blob_->bypass_cache(false);
  blob_->write({filling_.get() + whole, filled_ - whole});
  filled_ = 0;
  StagedBlob blob = std::move(*blob_);
  blob_.reset();
  return blob;
}

}  // namespace pretrained::server
