#include "pretrained/safetensors/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <tuple>
#include <unordered_set>

#include "pretrained/base/error.h"

namespace pretrained::safetensors {
namespace {

struct DtypeInfo {
  const char* name;
  size_t size;
};
constexpr DtypeInfo kDtypes[] = {
    {"BOOL", 1},    {"U8", 1},          {"I8", 1},          {"F8_E5M2", 1}, {"F8_E4M3", 1},
    {"F8_E8M0", 1}, {"F8_E4M3FNUZ", 1}, {"F8_E5M2FNUZ", 1}, {"I16", 2},     {"U16", 2},
    {"F16", 2},     {"BF16", 2},        {"I32", 4},         {"U32", 4},     {"F32", 4},
    {"C64", 8},     {"F64", 8},         {"I64", 8},         {"U64", 8}};
static_assert(std::size(kDtypes) == size_t(Dtype::U64) + 1);

constexpr size_t kMaxRank = 64;

// Reads the header's JSON event by event: only the shape that the format has is accepted, anything
// else stops at once.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(const std::string& source, Header& header) : source_(source), header_(header) {}

  bool start_object(size_t) override {
    if (state_ == State::start)
      state_ = State::top;
    else if (state_ == State::entry)
      state_ = name_ == "__metadata__" ? State::metadata : State::tensor;
    else
      fail("an object where none belongs");
    return true;
  }
  bool end_object() override {
    if (state_ == State::tensor) {
      if (seen_ != 7) fail("needs dtype, shape and data_offsets");
      header_.tensors.push_back(std::move(tensor_));
    }
    state_ = state_ == State::top ? State::end : State::top;
    return true;
  }
  bool key(string_t& key) override {
    if (state_ == State::top) {
      if (!names_.insert(key).second) fail_at(key, "stands twice in the header");
      name_ = std::move(key);
      tensor_ = {};
      tensor_.name = name_;
      seen_ = 0;
      state_ = State::entry;
    } else if (state_ == State::metadata) {
      if (header_.metadata.contains(key)) fail("the key '" + printable(key) + "' stands twice");
      field_ = std::move(key);
    } else {
      field_ = std::move(key);
      int bit = field_ == "dtype" ? 1 : field_ == "shape" ? 2 : field_ == "data_offsets" ? 4 : 0;
      if (bit == 0) fail("unknown field '" + printable(field_) + "'");
      if (seen_ & bit) fail("the field '" + field_ + "' stands twice");
      seen_ |= bit;
    }
    return true;
  }
  bool string(string_t& value) override {
    if (state_ == State::metadata) {
      header_.metadata[field_] = std::move(value);
      return true;
    }
    if (state_ != State::tensor || field_ != "dtype") fail("a string where none belongs");
    for (size_t i = 0; i < std::size(kDtypes); ++i) {
      if (value != kDtypes[i].name) continue;
      tensor_.dtype = Dtype(i);
      return true;
    }
    fail("unknown dtype '" + printable(value, 40) + "'");
  }
  bool start_array(size_t) override {
    if (state_ != State::tensor || field_ == "dtype") fail("a list where none belongs");
    numbers_.clear();
    state_ = State::list;
    return true;
  }
  bool end_array() override {
    state_ = State::tensor;
    if (field_ == "shape") {
      tensor_.shape.assign(numbers_.begin(), numbers_.end());
    } else {
      if (numbers_.size() != 2)
        fail("data_offsets must be two numbers, got " + std::to_string(numbers_.size()));
      tensor_.begin = numbers_[0];
      tensor_.end = numbers_[1];
    }
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != State::list) fail("a number where none belongs");
    if (value > uint64_t(INT64_MAX))
      fail(field_ + " holds " + std::to_string(value) + ", which is too large");
    if (numbers_.size() == kMaxRank) fail(field_ + " is longer than " + std::to_string(kMaxRank));
    numbers_.push_back(value);
    return true;
  }
  bool number_integer(number_integer_t value) override {
    fail("expected a number that is not negative, got " + std::to_string(value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    fail("expected an integer, got " + printable(text, 40));
  }
  bool null() override { fail("null where none belongs"); }
  bool boolean(bool) override { fail("a boolean where none belongs"); }
  bool binary(binary_t&) override { return false; }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    throw FormatError(source_ + ": the header is not valid JSON at byte " +
                      std::to_string(position));
  }

 private:
  enum class State { start, top, entry, metadata, tensor, list, end };

  [[noreturn]] void fail(const std::string& what) const { fail_at(name_, what); }
  [[noreturn]] void fail_at(const std::string& name, const std::string& what) const {
    throw FormatError(source_ + ": " +
                      (name.empty() ? "header" : "tensor '" + printable(name) + "'") + ": " + what);
  }

  const std::string& source_;
  Header& header_;
  State state_ = State::start;
  std::string name_, field_;
  TensorInfo tensor_;
  int seen_ = 0;
  std::vector<uint64_t> numbers_;
  std::unordered_set<std::string> names_;
};

// Item size × the product of the shape, or an error: a hostile shape overflows.
uint64_t byte_count(const TensorInfo& tensor, const std::string& source) {
  auto fail = [&](const char* what) {
    throw FormatError(source + ": tensor '" + printable(tensor.name) + "': " + what);
  };
  uint64_t bytes = 1;
  for (auto size : tensor.shape) {
    if (size < 0) fail("the shape holds a negative number");
    if (__builtin_mul_overflow(bytes, uint64_t(size), &bytes)) fail("the shape overflows 64 bits");
  }
  if (__builtin_mul_overflow(bytes, item_size(tensor.dtype), &bytes))
    fail("the shape overflows 64 bits");
  return bytes;
}

void check_cover(Header& header, uint64_t data_size, const std::string& source) {
  std::sort(header.tensors.begin(), header.tensors.end(), [](auto& a, auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t covered = 0;
  for (auto& tensor : header.tensors) {
    auto fail = [&](const std::string& what) {
      throw FormatError(source + ": tensor '" + printable(tensor.name) + "': " + what);
    };
    std::string range = std::to_string(tensor.begin) + " … " + std::to_string(tensor.end);
    if (tensor.end < tensor.begin) fail("data_offsets " + range + " run backwards");
    if (tensor.begin != covered)
      fail("data_offsets " + range + (tensor.begin < covered ? " overlap" : " leave a hole after") +
           " the tensor before, which ends at " + std::to_string(covered));
    if (uint64_t bytes = byte_count(tensor, source); tensor.end - tensor.begin != bytes)
      fail("shape and dtype need " + std::to_string(bytes) + " bytes, data_offsets " + range +
           " hold " + std::to_string(tensor.end - tensor.begin));
    covered = tensor.end;
  }
  if (covered != data_size)
    throw FormatError(
        source + ": the tensors end at byte " + std::to_string(covered) +
        " of the data, the file has " + std::to_string(data_size) +
        (covered > data_size ? ": it is truncated" : ": bytes follow that belong to no tensor"));
}

void append_json_string(const std::string& text, std::string& out) {
  try {
    // As serde_json: non-ASCII stays as it is.
    out += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::strict);
  } catch (const nlohmann::json::exception&) {
    throw FormatError("safetensors: the name '" + printable(text) + "' is not UTF-8");
  }
}

}  // namespace

const char* dtype_name(Dtype dtype) { return kDtypes[size_t(dtype)].name; }
size_t item_size(Dtype dtype) { return kDtypes[size_t(dtype)].size; }

Header parse_header(std::string_view start, uint64_t file_size, const std::string& source) {
  uint64_t length = 0;
  if (file_size < 8 || start.size() < 8)
    throw FormatError(source + ": " + std::to_string(file_size) +
                      " bytes, too short for a safetensors file");
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(start[size_t(i)]);
  if (length > kMaxHeader)
    throw FormatError(source + ": a header of " + std::to_string(length) + " bytes, at most " +
                      std::to_string(kMaxHeader) + " are read (is it a safetensors file?)");
  if (length > file_size - 8 || length > start.size() - 8)
    throw FormatError(source + ": the header says " + std::to_string(length) +
                      " bytes, the file has " + std::to_string(file_size - 8) +
                      " after its first 8: it is truncated");
  std::string_view text = start.substr(8, length);
  if (text.empty() || text[0] != '{')
    throw FormatError(source + ": the header does not start with '{'");
  Header header;
  header.data_begin = 8 + length;
  HeaderReader reader(source, header);
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  check_cover(header, file_size - header.data_begin, source);
  return header;
}

FileDescriptor open_to_map(const std::filesystem::path& path) {
  // O_NONBLOCK: a FIFO in place of the file must not hang us; map_file refuses it.
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() >= 0) return file;
  std::string message = path.string() + ": " + std::strerror(errno);
  if (errno == ENOENT || errno == ENOTDIR) throw NotFoundError(message);
  throw IoError(message);
}

std::shared_ptr<char> map_file(const FileDescriptor& file, const std::string& name,
                               uint64_t& size) {
  struct stat status;
  if (fstat(file.get(), &status) != 0) throw IoError(name + ": " + std::strerror(errno));
  if (!S_ISREG(status.st_mode)) throw FormatError(name + ": not a regular file");
  size = uint64_t(status.st_size);
  if (size == 0) throw FormatError(name + ": the file is empty");
  void* address =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file.get(), 0);
  if (address == MAP_FAILED) throw IoError(name + ": " + std::strerror(errno));
  return {static_cast<char*>(address), [size](char* start) { munmap(start, size); }};
}

File::File(const std::filesystem::path& path) { map(open_to_map(path), path.string()); }

File::File(const FileDescriptor& file, const std::string& name) { map(file, name); }

void File::map(const FileDescriptor& file, const std::string& name) {
  uint64_t size = 0;
  mapping_ = map_file(file, name, size);
  header_ = parse_header({mapping_.get(), size}, size, name);
}

const TensorInfo* File::find(const std::string& name) const {
  for (auto& tensor : header_.tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

uint64_t TensorData::size() const { return byte_count({name, dtype, shape, 0, 0}, "safetensors"); }

Plan plan(const std::vector<TensorData>& tensors,
          const std::map<std::string, std::string>& metadata) {
  Plan plan;
  plan.order.resize(tensors.size());
  std::iota(plan.order.begin(), plan.order.end(), size_t(0));
  std::sort(plan.order.begin(), plan.order.end(), [&](size_t a, size_t b) {
    if (tensors[a].dtype != tensors[b].dtype) return tensors[a].dtype > tensors[b].dtype;
    return tensors[a].name < tensors[b].name;
  });
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (auto& [key, value] : metadata) {
      if (json.back() != '{') json += ',';
      append_json_string(key, json);
      json += ':';
      append_json_string(value, json);
    }
    json += '}';
  }
  uint64_t offset = 0;
  std::unordered_set<std::string> names;
  for (size_t i : plan.order) {
    auto& tensor = tensors[i];
    if (!names.insert(tensor.name).second)
      throw FormatError("safetensors: the tensor '" + printable(tensor.name) + "' is given twice");
    if (tensor.name == "__metadata__")
      throw FormatError("safetensors: no tensor may be called __metadata__");
    if (json.back() != '{') json += ',';
    append_json_string(tensor.name, json);
    json += std::string(":{\"dtype\":\"") + dtype_name(tensor.dtype) + "\",\"shape\":[";
    for (size_t d = 0; d < tensor.shape.size(); ++d)
      json += (d ? "," : "") + std::to_string(tensor.shape[d]);
    uint64_t end = 0;
    if (__builtin_add_overflow(offset, tensor.size(), &end))
      throw FormatError("safetensors: the tensors overflow 64 bits");
    json += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(end) + "]}";
    offset = end;
  }
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > kMaxHeader)
    throw FormatError("safetensors: the names and shapes need a header of " +
                      std::to_string(json.size()) + " bytes, at most " +
                      std::to_string(kMaxHeader) + " can be read again; use more shards");
  for (int i = 0; i < 8; ++i) plan.header += char(json.size() >> (8 * i) & 0xFF);
  plan.header += json;
  return plan;
}

void write(AtomicFile& file, const std::vector<TensorData>& tensors,
           const std::map<std::string, std::string>& metadata, const Progress& progress) {
  Plan layout = plan(tensors, metadata);
  uint64_t done = 0, total = 0;
  for (auto& tensor : tensors) total += tensor.size();
  file.write(layout.header);
  constexpr uint64_t kChunk = 32 << 20;
  for (size_t i : layout.order) {
    auto* bytes = static_cast<const char*>(tensors[i].data);
    for (uint64_t at = 0, size = tensors[i].size(); at < size; at += kChunk) {
      uint64_t count = std::min(kChunk, size - at);
      file.write(bytes + at, count);
      done += count;
      if (progress) progress(done, total);
    }
  }
}

}  // namespace pretrained::safetensors
