// Any bytes give a commit or an HttpError, and what is promised of an operation holds.
#include "server/api/commit_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "server/http/http.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pretrained::server;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  CommitLimits limits;
  limits.contents = {1 << 10, 16, 64};
  limits.content_bytes = 4 << 10;
  limits.operations = 16;
  // The first byte is how much the client sends at a time.
  size_t step = text.empty() ? 1 : 1 + size_t(uint8_t(text[0]));
  if (!text.empty()) text.remove_prefix(1);
  auto stage = [] {
    static uint64_t n = 0;
    return StagedBlob(std::filesystem::temp_directory_path() /
                      ("fuzz-" + std::to_string(getpid()) + "-" + std::to_string(n++)));
  };
  CommitReader reader(
      [&](char* out, size_t room) {
        size_t n = std::min({room, text.size(), step});
        std::memcpy(out, text.data(), n);
        text.remove_prefix(n);
        return n;
      },
      stage, limits);
  try {
    reader.header();
    uint64_t content = 0;
    int64_t operations = 0;
    while (auto operation = reader.next()) {
      const CommitContent& bytes = operation->content;
      content += bytes.size;
      if (bytes.piece ? bytes.piece->read().size() != bytes.size || !bytes.text.empty()
                      : bytes.text.size() != bytes.size)
        __builtin_trap();
      bool lfs = operation->kind == CommitOperation::Kind::lfs_file;
      if (++operations > limits.operations || content > limits.content_bytes ||
          operation->content.size > limits.contents.file || (lfs && !is_hex(operation->oid, 64)))
        __builtin_trap();
    }
  } catch (const HttpError&) {
  }
  return 0;
}
