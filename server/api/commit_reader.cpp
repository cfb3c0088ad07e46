#include "server/api/commit_reader.h"

#include <algorithm>

#include "pretrained/base/error.h"
#include "server/api/common.h"
#include "server/http/http.h"

namespace pretrained::server {
namespace {

constexpr size_t kMaxLine = 1 << 20;

// Whether the last quote of a line so far begins the value of a "content". A quote before the name
// that is escaped is not where the name begins.
bool begins_content(std::string_view line) {
  auto trim = [&] { line = line.substr(0, line.find_last_not_of(" \t\r") + 1); };
  line.remove_suffix(1);
  trim();
  if (!line.ends_with(':')) return false;
  line.remove_suffix(1);
  trim();
  constexpr std::string_view name = "\"content\"";
  if (!line.ends_with(name)) return false;
  line.remove_suffix(name.size());
  return !line.ends_with('\\');
}

std::string too_large(const std::string& name, const CommitLimits& limits) {
  return name + " is larger than " + std::to_string(limits.contents.file >> 20) +
         " MiB and must be an LFS file";
}

}  // namespace

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

CommitReader::CommitReader(std::function<size_t(char*, size_t)> read,
                           std::function<StagedBlob()> stage, CommitLimits limits)
    : read_(std::move(read)), limits_(limits), contents_(std::move(stage), limits.contents) {}

void CommitReader::fail(int status, const std::string& what) const {
  throw HttpError(status, "", "commit, line " + std::to_string(lines_) + ": " + what);
}

// Whether there is a byte at start_.
bool CommitReader::more() {
  if (start_ < buffer_.size()) return true;
  buffer_.resize(64 << 10);
  start_ = 0;
  buffer_.resize(read_(buffer_.data(), buffer_.size()));
  bytes_ += buffer_.size();
  if (bytes_ > limits_.body_bytes)
    fail(413, "the body is larger than " + std::to_string(limits_.body_bytes) + " bytes");
  return !buffer_.empty();
}

// The next line, with "" in the place of its content.
std::optional<std::string> CommitReader::line() {
  ++lines_;
  content_.reset();
  if (!more()) return std::nullopt;
  std::string text;
  while (more()) {
    char c = buffer_[start_++];
    if (c == '\n') break;
    text += c;
    if (text.size() > kMaxLine)
      fail(413, "longer than " + std::to_string(kMaxLine) + " bytes without its content");
    if (c == '"' && begins_content(text)) read_content();
  }
  return text;
}

// Up to the quote or the newline that ends it.
void CommitReader::read_content() {
  if (content_) fail(400, "'content' is there twice");
  const uint64_t limit = bytes_ + limits_.contents.file / 3 * 4 + (128 << 10);
  while (more()) {
    std::string_view rest = std::string_view(buffer_).substr(start_);
    auto end = std::find_if(rest.begin(), rest.end(),
                            [](char c) { return c == '"' || c == '\\' || c == '\n'; });
    contents_.write({rest.begin(), end});
    start_ += size_t(end - rest.begin());
    if (end != rest.end() && *end != '\\') break;
    if (end != rest.end()) read_escape();
    if (bytes_ > limit) fail(413, too_large("the file", limits_));
  }
  content_ = contents_.end();
  if (content_->size <= limits_.contents.file) content_bytes_ += content_->size;
  if (content_bytes_ > limits_.content_bytes)
    fail(413, "the files of one commit are larger than " +
                  std::to_string(limits_.content_bytes >> 20) + " MiB; use several commits");
}

// "\/" and "\u002B" are how some write "/" and "+".
void CommitReader::read_escape() {
  std::string text = "\"";
  auto take = [&](size_t size) {
    while (text.size() < size && more()) text += buffer_[start_++];
  };
  take(3);
  if (text.back() == 'u') take(7);
  try {
    Json json = parse_json(text + "\"", "escape", 1);
    contents_.write(*json.get_if<std::string>());
  } catch (const FormatError&) {
    contents_.write("\\");  // no base64
  }
}

std::optional<CommitReader::Record> CommitReader::record() {
  auto found = line();
  while (found && found->find_first_not_of(" \t\r") == found->npos) found = line();
  if (!found) return std::nullopt;
  Json json;
  try {
    json = parse_json(*found, "operation", 1000);
  } catch (const FormatError& e) {
    fail(400, e.what());
  }
  found.reset();
  Record result;
  result.key = text(json, "key");
  result.value = std::move((*json.get_if<Json::Object>())["value"]);
  if (!result.value.get_if<Json::Object>()) fail(400, "'value' must be an object");
  return result;
}

const std::string& CommitReader::text(const Json& value, const char* name) const {
  const Json* field = value.find(name);
  const std::string* result = field ? field->get_if<std::string>() : nullptr;
  if (!result)
    fail(400, std::string("'") + name + "' must be a string, got " +
                  (field ? field->kind() : "nothing"));
  return *result;
}

CommitHeader CommitReader::header() {
  auto first = record();
  if (!first) fail(400, "the body is empty; expected a header");
  if (first->key != "header") fail(400, "expected a header, got '" + printable(first->key) + "'");
  auto optional = [&](const char* name) -> std::optional<std::string> {
    const Json* field = first->value.find(name);
    if (!field || field->is_null()) return std::nullopt;
    return text(first->value, name);
  };
  CommitHeader header;
  header.summary = text(first->value, "summary");
  header.description = optional("description").value_or("");
  header.parent = optional("parentCommit");
  if (header.summary.find_first_not_of(" \t\r\n") == std::string::npos)
    fail(400, "the summary is empty");
  return header;
}

std::optional<CommitOperation> CommitReader::next() {
  auto found = record();
  if (!found) return std::nullopt;
  if (++operations_ > limits_.operations)
    fail(413, "more than " + std::to_string(limits_.operations) + " operations in one commit");
  return operation(*found);
}

CommitOperation CommitReader::operation(Record& record) {
  using Kind = CommitOperation::Kind;
  CommitOperation result;
  result.path = text(record.value, "path");
  if (record.key == "file") {
    const Json* encoding = record.value.find("encoding");
    if (encoding && text(record.value, "encoding") != "base64")
      fail(400, "'encoding' must be \"base64\"");
    if (!text(record.value, "content").empty() || !content_)
      fail(400, "'content' must be written as such, without escapes in the name");
    if (!content_->is_base64)
      fail(400, "'content' of " + printable(result.path) + " is not base64");
    if (content_->size > limits_.contents.file)
      fail(413, too_large(printable(result.path), limits_));
    result.content = std::move(*content_);
  } else if (record.key == "lfsFile") {
    result.kind = Kind::lfs_file;
    const Json* algorithm = record.value.find("algo");
    if (algorithm && text(record.value, "algo") != "sha256") fail(400, "'algo' must be \"sha256\"");
    result.oid = text(record.value, "oid");
    if (!is_hex(result.oid, 64)) fail(400, "'oid' must be 64 lower-case hexadecimal digits");
    if (const Json* size = record.value.find("size"); size && !size->is_null()) {
      const int64_t* number = size->get_if<int64_t>();
      if (!number || *number < 0) fail(400, "'size' must be a number of bytes");
      result.size = uint64_t(*number);
    }
  } else if (record.key == "deletedFile") {
    result.kind = Kind::delete_file;
  } else if (record.key == "deletedFolder") {
    result.kind = Kind::delete_folder;
    while (result.path.ends_with("/")) result.path.pop_back();
  } else {
    fail(400, "unknown operation '" + printable(record.key) + "'");
  }
  return result;
}

}  // namespace pretrained::server
