#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "server/cas/store.h"

namespace pretrained::server {
namespace {
constexpr size_t kOpenXorbs = 128, kOpenChunks = 1 << 20;
}

// One xorb
// ------------------------------------------------------------------------------------------

OpenXorb::OpenXorb(const Hash& hash, std::string blob, FileDescriptor file, ChunkTable chunks)
    : hash(hash),
      blob(std::move(blob)),
      file(std::move(file)),
      table(std::move(chunks)),
      compared_(new std::atomic<bool>[table.size()]()) {}

void OpenXorb::damaged(size_t chunk, const std::string& found) const {
  throw DamagedContent("xorb " + hash.hex() + ", chunk " + std::to_string(chunk) + ": " + found +
                       "; check the disk and run fsck");
}

// The first `size` bytes of a record.
std::string OpenXorb::record(size_t chunk, uint64_t size) const {
  std::string bytes(size, '\0');
  size_t filled = 0;
  while (filled < size) {
    ssize_t got =
        pread(file.get(), bytes.data() + filled, size - filled, off_t(table.begin(chunk) + filled));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw IoError("xorb " + hash.hex() + ": " + std::strerror(errno));
    if (got == 0) damaged(chunk, "the file ends before it");
    filled += size_t(got);
  }
  return bytes;
}

std::string OpenXorb::read(size_t chunk) const {
  std::string raw;
  try {
    raw = xet::decode_record(record(chunk, table.end(chunk) - table.begin(chunk)));
  } catch (const FormatError& error) {
    damaged(chunk, error.what());
  }
  if (raw.size() != table.raw_size(chunk) || xet::chunk_hash(raw) != table.hash(chunk))
    damaged(chunk, "its bytes are not those that were stored");
  compared_[chunk].store(true, std::memory_order_relaxed);
  return raw;
}

std::optional<uint64_t> OpenXorb::plain_offset(size_t chunk) const {
  uint64_t stored = table.end(chunk) - table.begin(chunk) - xet::kRecordHeader;
  if (stored != table.raw_size(chunk) || !compared_[chunk].load(std::memory_order_relaxed))
    return std::nullopt;
  // The sizes agree by chance where a client compressed without gain: the header decides.
  constexpr size_t kSchemeAt = 4;
  if (record(chunk, xet::kRecordHeader)[kSchemeAt] != char(xet::Scheme::none)) return std::nullopt;
  return table.begin(chunk) + xet::kRecordHeader;
}

// Those in use
// --------------------------------------------------------------------------------------

std::shared_ptr<const OpenXorb> OpenXorbs::find(const Hash& hash) {
  auto blob = database_.read([&](Transaction& t) {
    return t.one("SELECT blob FROM xorbs WHERE hash = ?", to_bytes(hash));
  });
  if (!blob) return nullptr;
  {
    std::lock_guard lock(mutex_);
    auto found = open_.find(hash);
    // A xorb that was collected and came again may have its records elsewhere.
    if (found != open_.end() && found->second.first->blob == blob->text(0)) {
      order_.splice(order_.begin(), order_, found->second.second);
      return found->second.first;
    }
  }
  auto row = database_.read([&](Transaction& t) {
    return t.one("SELECT blob, chunk_table, bytes FROM xorbs WHERE hash = ?", to_bytes(hash));
  });
  if (!row) return nullptr;
  FileDescriptor file;
  try {
    file = blobs_.open(row->text(0));
  } catch (const NotFoundError& error) {
    throw DamagedContent("xorb " + hash.hex() + ": " + error.what());
  }
  auto xorb = std::make_shared<OpenXorb>(hash, row->text(0), std::move(file),
                                         ChunkTable(row->bytes(1), uint64_t(row->integer(2))));
  std::lock_guard lock(mutex_);
  drop(hash);
  order_.push_front(hash);
  open_[hash] = {xorb, order_.begin()};
  chunks_ += xorb->table.size();
  while (open_.size() > 1 && (open_.size() > kOpenXorbs || chunks_ > kOpenChunks))
    drop(Hash(order_.back()));
  return xorb;
}

std::shared_ptr<const OpenXorb> OpenXorbs::open(const Hash& hash) {
  if (auto xorb = find(hash)) return xorb;
  throw DamagedContent("xorb " + hash.hex() + " is not in the store, but a file is made of it");
}

void OpenXorbs::forget(const Hash& hash) {
  std::lock_guard lock(mutex_);
  drop(hash);
}

void OpenXorbs::drop(const Hash& hash) {
  auto found = open_.find(hash);
  if (found == open_.end()) return;
  chunks_ -= found->second.first->table.size();
  order_.erase(found->second.second);
  open_.erase(found);
}

// Files
// ---------------------------------------------------------------------------------------------

void Store::read(const FileRow& file, uint64_t first, uint64_t last,
                 const ContentStore::Output& output) {
  uint64_t at = 0;  // of the term or chunk in the file
  for (auto& term : file.terms) {
    if (at > last) return;
    if (at + term.size <= first) {
      at += term.size;
      continue;
    }
    auto xorb = xorbs.open(term.xorb);
    if (term.chunk_end > xorb->table.size())
      throw DamagedContent("file " + file.hash.hex() + " names chunk " +
                           std::to_string(term.chunk_end - 1) + " of xorb " + term.xorb.hex() +
                           ", which has " + std::to_string(xorb->table.size()));
    for (size_t i = term.chunk_begin; i < term.chunk_end && at <= last; ++i) {
      uint64_t end = at + xorb->table.raw_size(i);
      if (end > first) {
        uint64_t from = std::max(first, at) - at, size = std::min(last + 1, end) - at - from;
        auto plain = output.send_file ? xorb->plain_offset(i) : std::nullopt;
        if (plain)
          output.send_file(xorb->file.get(), *plain + from, size);
        else
          output.write(std::string_view(xorb->read(i)).substr(from, size));
      }
      at = end;
    }
  }
}

void ContentStore::read(const ContentObject& object, uint64_t first, uint64_t last,
                        const Output& output) {
  if (first >= object.size || last < first) return;
  auto file = state_->find_file(object.xet_hash);
  if (!file) throw NotFoundError("object " + object.sha256 + " is no longer in the store");
  state_->read(*file, first, std::min(last, object.size - 1), output);
}

std::string ContentStore::read_bytes(const ContentObject& object, uint64_t first, uint64_t length) {
  std::string out;
  if (length == 0) return out;
  uint64_t last = first + length - 1 < first ? ~uint64_t(0) : first + length - 1;
  read(object, first, last, {[&](std::string_view bytes) { out += bytes; }, nullptr});
  return out;
}

std::optional<Reconstruction> ContentStore::reconstruct(int64_t repo, const Hash& hash,
                                                        uint64_t first, uint64_t last) {
  bool held = state_->database.read([&](Transaction& t) {
    return t
        .one(
            "SELECT 1 FROM files f JOIN repo_objects o ON o.repo = ? AND o.sha256 = f.sha256 "
            "WHERE f.hash = ? AND (o.committed = 1 OR o.lease_until > ?)",
            repo, to_bytes(hash), now_ms())
        .has_value();
  });
  auto file = held ? state_->find_file(hash) : std::nullopt;
  if (!file) return std::nullopt;
  Reconstruction result;
  result.file_size = file->size;
  uint64_t at = 0;
  for (auto& term : file->terms) {
    if (at > last || first >= file->size) break;
    uint64_t begin = at;
    at += term.size;
    if (at <= first) continue;
    auto xorb = state_->xorbs.open(term.xorb);
    auto& table = xorb->table;
    Term part{term.xorb, term.chunk_begin, std::min<uint32_t>(term.chunk_end, table.size()), 0};
    while (part.first_chunk < part.end_chunk && begin + table.raw_size(part.first_chunk) <= first)
      begin += table.raw_size(part.first_chunk++);
    uint32_t end = part.first_chunk;
    while (end < part.end_chunk && begin + part.raw_length <= last)
      part.raw_length += table.raw_size(end++);
    part.end_chunk = end;
    if (part.first_chunk == end)
      throw DamagedContent("file " + hash.hex() + " does not fit xorb " + term.xorb.hex());
    if (result.parts.empty()) result.offset_into_first_range = first - std::min(first, begin);
    result.parts.push_back({part, table.begin(part.first_chunk), table.begin(end) - 1});
  }
  return result;
}

std::optional<ContentStore::XorbFile> ContentStore::open_xorb(const Hash& hash) {
  auto row = state_->database.read([&](Transaction& t) {
    return t.one("SELECT blob, bytes FROM xorbs WHERE hash = ?", to_bytes(hash));
  });
  if (!row) return std::nullopt;
  return XorbFile{state_->blobs.open(row->text(0)), uint64_t(row->integer(1))};
}

}  // namespace pretrained::server
