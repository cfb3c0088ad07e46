#include "server/api/commit_reader.h"

#include <algorithm>

#include "pretrained/base/error.h"
#include "server/api/common.h"
#include "server/http/http.h"

namespace pretrained::server {

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

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

CommitReader::CommitReader(std::function<size_t(char*, size_t)> read, CommitLimits limits)
    : read_(std::move(read)), limits_(limits) {}

void CommitReader::fail(int status, const std::string& what) const {
  throw HttpError(status, "", "commit, line " + std::to_string(lines_) + ": " + what);
}

std::optional<std::string> CommitReader::line() {
  // A file in base64, its path, and room for the rest of the object.
  const uint64_t limit = limits_.file_bytes / 3 * 4 + (64 << 10);
  ++lines_;
  size_t searched = start_;
  while (true) {
    size_t end = buffer_.find('\n', searched);
    if (end != buffer_.npos || (ended_ && start_ < buffer_.size())) {
      std::string result = buffer_.substr(start_, end == buffer_.npos ? end : end - start_);
      start_ = end == buffer_.npos ? buffer_.size() : end + 1;
      return result;
    }
    if (ended_) return std::nullopt;
    buffer_.erase(0, start_);
    start_ = 0;
    searched = buffer_.size();
    if (searched > limit)
      fail(413, "longer than " + std::to_string(limit) + " bytes; files over " +
                    std::to_string(limits_.file_bytes >> 20) + " MiB must be LFS files");
    char piece[64 << 10];
    size_t got = read_(piece, sizeof piece);
    buffer_.append(piece, got);
    ended_ = got == 0;
    bytes_ += got;
    if (bytes_ > limits_.body_bytes)
      fail(413, "the body is larger than " + std::to_string(limits_.body_bytes) + " bytes");
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
    auto content = decode_strict_base64(text(record.value, "content"));
    if (!content) fail(400, "'content' of " + printable(result.path) + " is not base64");
    if (content->size() > limits_.file_bytes)
      fail(413, printable(result.path) + " is larger than " +
                    std::to_string(limits_.file_bytes >> 20) + " MiB and must be an LFS file");
    content_ += content->size();
    if (content_ > limits_.content_bytes)
      fail(413, "the files of one commit are larger than " +
                    std::to_string(limits_.content_bytes >> 20) + " MiB; use several commits");
    result.content = std::move(*content);
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
