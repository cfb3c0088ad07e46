#pragma once
// The safetensors format: parse, validate, map, write. Bytes only, no tensors.
//
//   8 bytes      n, little-endian
//   n bytes      JSON: {"__metadata__": {text: text}, name: {"dtype": "F32", "shape": [2, 3],
//   "data_offsets": [0, 24]}, …},
//                starts with '{', padded with spaces to a multiple of 8
//   the rest     the tensors' bytes, row-major, little-endian; the offsets cover it without hole or
//   overlap
//
// Every rule is checked before anything is used; a file that breaks one is a FormatError naming
// file and tensor. Writing gives the same bytes as Python's safetensors.torch.save_file for the
// same tensors. Mirrors
// https://github.com/huggingface/safetensors/blob/main/safetensors/src/tensor.rs Threads: all
// functions are reentrant; a File is immutable, its bytes are shared by all who read it.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/base/files.h"

namespace pretrained::safetensors {

// In the order in which Python's writer sorts, smallest first. The format's dtypes of less than a
// byte are refused.
enum class Dtype {
  BOOL,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  F64,
  I64,
  U64
};
PRETRAINED_API const char* dtype_name(Dtype dtype);
PRETRAINED_API size_t item_size(Dtype dtype);

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // in the data section
};

struct PRETRAINED_API Header {
  std::vector<TensorInfo> tensors;  // by offset
  std::map<std::string, std::string> metadata;
  uint64_t data_begin = 0;  // in the file
};

inline constexpr uint64_t kMaxHeader = 100'000'000;

// `start` holds at least the 8 bytes and the header; `file_size` is that of the whole file;
// `source` is for messages.
PRETRAINED_API Header parse_header(std::string_view start, uint64_t file_size,
                                   const std::string& source);

// A file mapped copy-on-write: writing to data() changes this process's view only, never the file.
class PRETRAINED_API File {
 public:
  // Symbolic links in `path` are followed; FileDescriptors from open_inside() are for names that a
  // file gave. Opening reads the header, not the tensors.
  explicit File(const std::filesystem::path& path);
  File(const FileDescriptor& file, const std::string& name);

  const Header& header() const { return header_; }
  const TensorInfo* find(
      const std::string& name) const;  // nullptr where there is none; looks at each
  char* data(const TensorInfo& tensor) const {
    return mapping_.get() + header_.data_begin + tensor.begin;
  }
  // Keep it for as long as data() is used.
  const std::shared_ptr<char>& mapping() const { return mapping_; }

 private:
  void map(const FileDescriptor& file, const std::string& name);
  std::shared_ptr<char> mapping_;
  Header header_;
};

PRETRAINED_API FileDescriptor open_to_map(const std::filesystem::path& path);
// Maps a whole regular file copy-on-write; also for other formats. An empty file is a FormatError.
PRETRAINED_API std::shared_ptr<char> map_file(const FileDescriptor& file, const std::string& name,
                                              uint64_t& size);

struct PRETRAINED_API TensorData {
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;
  const void* data;  // contiguous; item_size × the product of shape bytes
  uint64_t size() const;
};

// Header bytes and the order in which the tensors' bytes follow. Throws FormatError for doubled
// names, names that are not UTF-8, sizes that no file can have and headers longer than kMaxHeader,
// which Python would not read.
struct Plan {
  std::string header;
  std::vector<size_t> order;
};
PRETRAINED_API Plan plan(const std::vector<TensorData>& tensors,
                         const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

using Progress = std::function<void(uint64_t done, uint64_t total)>;
// Into a file that the caller commits.
PRETRAINED_API void write(AtomicFile& file, const std::vector<TensorData>& tensors,
                          const std::map<std::string, std::string>& metadata = {{"format", "pt"}},
                          const Progress& progress = {});

}  // namespace pretrained::safetensors
