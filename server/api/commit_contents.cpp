#include "server/api/commit_contents.h"

#include <utility>

#include "server/api/common.h"

namespace pretrained::server {
namespace {

constexpr size_t kDigits = 64 << 10;  // decoded together

}  // namespace

std::optional<std::string> decode_strict_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  auto bytes = decode_base64(text);
  if (!bytes || bytes->size() != text.size() / 4 * 3 - padding) return std::nullopt;
  // Whoever encodes the last bytes again gets the same text, or bits were hidden behind them.
  size_t tail = bytes->size() % 3;
  if (tail != 0 && encode_base64(std::string_view(*bytes).substr(bytes->size() - tail)) !=
                       text.substr(text.size() - 4))
    return std::nullopt;
  return bytes;
}

CommitContents::CommitContents(std::function<StagedBlob()> stage, const ContentLimits& limits)
    : stage_(std::move(stage)), limits_(limits) {}

void CommitContents::write(std::string_view base64) {
  encoded_ += base64;
  if (encoded_.size() >= kDigits) decode(encoded_.size() / 4 * 4);
}

void CommitContents::decode(size_t digits) {
  if (content_.is_base64) {
    auto bytes = decode_strict_base64(std::string_view(encoded_).substr(0, digits));
    content_.is_base64 = bytes && !padded_;
    if (content_.is_base64) {
      padded_ = bytes->size() != digits / 4 * 3;
      content_.size += bytes->size();
      if (content_.size <= limits_.file) keep(*bytes);
    }
  }
  encoded_.erase(0, digits);
}

void CommitContents::keep(std::string_view bytes) {
  uint64_t size = content_.text.size() + bytes.size();
  if (!content_.piece && size <= limits_.small &&
      small_together_ + size <= limits_.small_together) {
    content_.text += bytes;
    return;
  }
  if (!file_) file_.emplace(stage_());
  if (!content_.piece) {
    content_.piece = FilePiece{file_->fd(), file_->size(), 0};
    file_->write(std::exchange(content_.text, {}));
  }
  file_->write(bytes);
  content_.piece->size = file_->size() - content_.piece->offset;
}

CommitContent CommitContents::end() {
  if (!encoded_.empty()) decode(encoded_.size());
  padded_ = false;
  small_together_ += content_.text.size();
  return std::exchange(content_, {});
}

}  // namespace pretrained::server
