#include "pretrained/hub/xet_download.h"

#include <chrono>
#include <map>

#include "pretrained/hub/errors.h"
#include "pretrained/xet/xorb.h"

namespace pretrained::hub {
namespace {

constexpr int kAsked = 3;            // reconstructions, where addresses expire meanwhile
constexpr int64_t kEarly = 60;       // seconds before its end that a token is renewed
constexpr size_t kMaxTerms = 65536;  // of one answer
// In memory for one range of a file, eight times what the range itself has at most.
constexpr uint64_t kMaxHeld = 128 << 20;

struct Term {
  std::string xorb;
  uint64_t size = 0, first = 0, end = 0;  // chunks
};

// Chunks of a xorb that come in one go.
struct Span {
  std::string url;
  uint64_t first = 0, end = 0;   // chunks
  uint64_t begin = 0, last = 0;  // bytes, `last` included
};

struct Reconstruction {
  uint64_t skip = 0;  // bytes of the first term
  std::vector<Term> terms;
  std::map<std::string, std::vector<Span>> xorbs;
};

struct Expired {};  // an address is no longer good

class Reader {
 public:
  explicit Reader(const std::string& what) : what_(what) {}

  Reconstruction read(const Json& json) const {
    Reconstruction result;
    result.skip = number(json, "offset_into_first_range");
    auto& terms = list(member(json, "terms"));
    if (terms.size() > kMaxTerms) throw wrong("too many terms");
    for (auto& item : terms) {
      auto& range = member(item, "range");
      result.terms.push_back({text(item, "hash"), number(item, "unpacked_length"),
                              number(range, "start"), number(range, "end")});
    }
    if (auto* info = json.find("fetch_info"))
      each_xorb(
          *info,
          [&](auto& spans, const Json& item) {
            spans.push_back(span(item, member(item, "range"), member(item, "url_range")));
          },
          result);
    else
      each_xorb(
          member(json, "xorbs"),
          [&](auto& spans, const Json& item) {
            for (auto& range : list(member(item, "ranges")))
              spans.push_back(span(item, member(range, "chunks"), member(range, "bytes")));
          },
          result);
    return result;
  }

  IntegrityError wrong(const std::string& words) const {
    return IntegrityError(what_ + ": the store's answer: " + words);
  }

 private:
  template <class F>
  void each_xorb(const Json& json, F&& add, Reconstruction& result) const {
    auto* object = json.get_if<Json::Object>();
    if (!object) throw wrong("its xorbs are no object");
    for (auto& [hash, items] : *object)
      for (auto& item : list(items)) add(result.xorbs[hash], item);
  }

  Span span(const Json& item, const Json& chunks, const Json& bytes) const {
    Span span{text(item, "url"), number(chunks, "start"), number(chunks, "end"),
              number(bytes, "start"), number(bytes, "end")};
    bool good = span.first < span.end && span.end <= xet::kMaxXorbChunks &&
                span.begin <= span.last && span.last < xet::kMaxXorbUpload;
    if (!good) throw wrong("a range of a xorb is none");
    return span;
  }

  const Json& member(const Json& json, const char* name) const {
    auto* value = json.find(name);
    if (!value) throw wrong(std::string("'") + name + "' is missing");
    return *value;
  }
  const Json::Array& list(const Json& json) const {
    auto* value = json.get_if<Json::Array>();
    if (!value) throw wrong("expected a list, found " + std::string(json.kind()));
    return *value;
  }
  uint64_t number(const Json& json, const char* name) const {
    auto* value = member(json, name).get_if<int64_t>();
    if (!value || *value < 0) throw wrong(std::string("'") + name + "' is no size");
    return uint64_t(*value);
  }
  std::string text(const Json& json, const char* name) const {
    auto* value = member(json, name).get_if<std::string>();
    if (!value) throw wrong(std::string("'") + name + "' is no text");
    return *value;
  }
  const std::string& what_;
};

// Writes one range of a file from what its reconstruction says.
class Assembly {
 public:
  Assembly(HttpClient& http, const Source& source, const Reconstruction& plan,
           const FetchCallbacks& callbacks)
      : http_(http), source_(source), plan_(plan), reader_(source.what), callbacks_(callbacks) {}

  // Returns where it got to.
  uint64_t write(Range range) {
    uint64_t at = range.begin, skip = plan_.skip;
    for (auto& term : plan_.terms) {
      if (at == range.end) break;
      const Piece& piece = piece_for(term);
      uint64_t size = 0;
      for (uint64_t i = term.first; i < term.end; ++i) {
        auto& chunk = piece.table.chunks[i - piece.first];
        size += chunk.size;
        if (at == range.end) continue;
        if (skip >= chunk.size) {
          skip -= chunk.size;
          continue;
        }
        std::string raw = decode(piece, chunk);
        std::string_view bytes = std::string_view(raw).substr(skip, range.end - at);
        callbacks_.write(at, bytes);
        at += bytes.size();
        skip = 0;
      }
      if (size != term.size) throw reader_.wrong("a term has another length than it says");
    }
    return at;
  }

 private:
  struct Piece {
    uint64_t first = 0;
    std::string bytes;
    xet::XorbTable table;
  };

  std::string decode(const Piece& piece, const xet::ChunkRecord& chunk) const {
    try {
      return xet::decode_chunk(piece.bytes, chunk);
    } catch (const FormatError& error) {
      throw IntegrityError(source_.what + ": " + error.what());
    }
  }

  const Piece& piece_for(const Term& term) {
    auto xorb = plan_.xorbs.find(term.xorb);
    if (xorb != plan_.xorbs.end() && term.first < term.end)
      for (auto& span : xorb->second)
        if (span.first <= term.first && term.end <= span.end) return fetch(span);
    throw reader_.wrong("it does not say where the chunks of a term are");
  }

  const Piece& fetch(const Span& span) {
    auto [at, added] = pieces_.try_emplace(&span);
    Piece& piece = at->second;
    if (!added) return piece;
    held_ += span.last - span.begin + 1;
    if (held_ > kMaxHeld)
      throw reader_.wrong("a range of the file is said to need too many chunks");
    HttpRequest request;
    request.url = span.url;
    request.send_token = false;  // the address is signed
    request.headers = {
        {"Range", "bytes=" + std::to_string(span.begin) + "-" + std::to_string(span.last)}};
    request.body_limit = span.last - span.begin + 1;
    request.progress = [&](uint64_t, uint64_t) { callbacks_.check(); };
    HttpResponse response = http_.send(request);
    if (response.status == 403) throw Expired();
    if (response.status != 206) throw_for_status(response, source_.what + ": chunks");
    callbacks_.received(response.body.size());
    piece.first = span.first;
    piece.bytes = std::move(response.body);
    try {
      piece.table = xet::parse_xorb(piece.bytes);
    } catch (const FormatError& error) {
      throw IntegrityError(source_.what + ": " + error.what());
    }
    if (piece.bytes.size() != span.last - span.begin + 1 ||
        piece.table.chunks.size() != span.end - span.first)
      throw reader_.wrong("a range of a xorb holds other chunks than it says");
    return piece;
  }

  HttpClient& http_;
  const Source& source_;
  const Reconstruction& plan_;
  Reader reader_;
  const FetchCallbacks& callbacks_;
  std::map<const Span*, Piece> pieces_;
  uint64_t held_ = 0;  // bytes of them
};

int64_t now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

XetToken XetReader::token(bool renew) {
  std::lock_guard lock(mutex_);
  if (!token_ || renew || token_->expires < now() + kEarly)
    token_ = client_.xet_token(repo_, "read", commit_);
  return *token_;
}

HttpResponse XetReader::ask(const Source& source, Range range, const FetchCallbacks& callbacks) {
  for (bool renewed = false;;) {
    XetToken token = this->token(renewed);
    bool v1 = only_v1_;
    HttpRequest request;
    request.url = token.cas_url + (v1 ? "/v1" : "/v2") + "/reconstructions/" + source.file.xet_hash;
    request.headers = {
        {"Range", "bytes=" + std::to_string(range.begin) + "-" + std::to_string(range.end - 1)}};
    request.send_token = false;
    request.bearer = token.access_token;
    request.progress = [&](uint64_t, uint64_t) { callbacks.check(); };
    HttpResponse response = client_.http().send(request);
    if (!v1 && (response.status == 404 || response.status == 501)) {
      only_v1_ = true;
    } else if (response.status == 401 && !renewed) {
      renewed = true;
    } else {
      if (response.status / 100 != 2) throw_for_status(response, source.what);
      return response;
    }
  }
}

void XetReader::fetch(const Source& source, Range range, const FetchCallbacks& callbacks) {
  Reader reader(source.what);
  for (int asked = 1;; ++asked) {
    auto response = ask(source, range, callbacks);
    Reconstruction plan = reader.read(Json::parse(response.body, source.what));
    try {
      if (Assembly(client_.http(), source, plan, callbacks).write(range) != range.end)
        throw reader.wrong("it ends before the range does");
      return;
    } catch (const Expired&) {
      if (asked == kAsked)
        throw NetworkError(source.what + ": the store refuses the addresses that it has given");
    }
  }
}

}  // namespace pretrained::hub
