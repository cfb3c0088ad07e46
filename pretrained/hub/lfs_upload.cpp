#include "pretrained/hub/lfs_upload.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "pretrained/hub/send_pool.h"

namespace pretrained::hub {
namespace {

constexpr size_t kBatch = 100;
constexpr uint64_t kParts = 10'000;
const std::string kType = "application/vnd.git-lfs+json";

const Json* field(const Json& json, const char* key) { return json.find(key); }

std::string text(const Json* json) {
  const auto* value = json ? json->get_if<std::string>() : nullptr;
  return value ? *value : "";
}

class LfsUpload {
 public:
  LfsUpload(const HubClient& client, const Repo& repo, const std::string& revision,
            UploadProgress& progress)
      : client_(client), repo_(repo), revision_(revision), progress_(progress) {}

  // What the hub answers for each of the files.
  std::map<std::string, Json> ask(const std::vector<CommitFile*>& files) {
    Json::Array objects;
    for (auto* file : files)
      objects.push_back(Json::Object{{"oid", file->sha256}, {"size", int64_t(file->local.size)}});
    Json::Object body{{"operation", "upload"},
                      {"transfers", Json::Array{"basic", "multipart"}},
                      {"hash_algo", "sha256"},
                      {"ref", Json::Object{{"name", revision_}}},
                      {"objects", std::move(objects)}};
    Json answer = post(client_.web_url(repo_) + ".git/info/lfs/objects/batch", std::move(body),
                       repo_.id + ": LFS batch");
    transfer_ = text(field(answer, "transfer"));
    const Json* list = field(answer, "objects");
    const auto* items = list ? list->get_if<Json::Array>() : nullptr;
    if (!items) throw IntegrityError(repo_.id + ": LFS batch: the answer has no objects");
    std::map<std::string, Json> result;
    for (auto& item : *items) result[text(field(item, "oid"))] = item;
    return result;
  }

  void store(const CommitFile& file, const Json& item) const {
    if (const Json* error = field(item, "error"))
      throw HubError(name(file) + ": " + printable(text(field(*error, "message")), 300), 0);
    const Json* actions = field(item, "actions");
    const Json* upload = actions ? field(*actions, "upload") : nullptr;
    if (upload) {
      if (transfer_ == "multipart" && is_multipart(*upload))
        send_parts(file, *upload);
      else
        send_whole(file, *upload);
      if (const Json* verify = field(*actions, "verify")) confirm(file, *verify);
    }
    progress_.finished(file.local.path, file.local.size, upload ? "uploaded" : "unchanged");
  }

 private:
  struct Target {
    std::string href;
    Headers headers;
  };

  std::string name(const CommitFile& file) const { return repo_.id + ": " + file.local.path; }

  Json post(const std::string& url, Json body, const std::string& what,
            const Headers& headers = {}) const {
    HttpRequest request{.method = "POST", .url = url, .headers = headers};
    request.headers.push_back({"Accept", kType});
    request.headers.push_back({"Content-Type", kType});
    request.body = body.dump(0);
    auto response = client_.http().send(request);
    progress_.sent(request.body.size());
    if (response.status < 200 || response.status > 299) throw_for_status(response, what);
    return response.body.empty() ? Json() : Json::parse(response.body, what);
  }

  Target target(const CommitFile& file, const Json& action) const {
    Target result{text(field(action, "href")), {}};
    if (result.href.empty()) throw IntegrityError(name(file) + ": LFS batch: no address");
    const Json* header = field(action, "header");
    if (const auto* object = header ? header->get_if<Json::Object>() : nullptr)
      for (auto& [key, value] : *object) result.headers.push_back({key, text(&value)});
    return result;
  }

  static bool is_multipart(const Json& upload) {
    const Json* header = field(upload, "header");
    return header && field(*header, "chunk_size");
  }

  // The address allows the upload by itself: it may be another server's, and gets no token.
  HttpResponse put(const CommitFile& file, const std::string& url, Headers headers, uint64_t begin,
                   uint64_t size) const {
    SourceFile source(file.local);
    HttpRequest request{.method = "PUT", .url = url, .headers = std::move(headers)};
    request.send_token = false;
    request.body_size = size;
    request.read_body = [&](uint64_t offset, char* buffer, size_t wanted) {
      size_t part = size_t(std::min<uint64_t>(wanted, size - offset));
      source.read(begin + offset, buffer, part);
      return part;
    };
    request.progress = [&](uint64_t sent, uint64_t) {
      progress_.progress(file.local.path, begin + std::min(sent, size), file.local.size);
    };
    auto response = client_.http().send(request);
    if (response.status < 200 || response.status > 299) throw_for_status(response, name(file));
    source.check_unchanged();
    progress_.sent(size);
    return response;
  }

  void send_whole(const CommitFile& file, const Json& upload) const {
    auto [href, headers] = target(file, upload);
    headers.push_back({"Content-Type", "application/octet-stream"});
    put(file, href, std::move(headers), 0, file.local.size);
  }

  // header: {"chunk_size": "N", "00001": address, "00002": …}
  void send_parts(const CommitFile& file, const Json& upload) const {
    uint64_t chunk = 0;
    std::map<uint64_t, std::string> addresses;
    for (auto& [key, value] : target(file, upload).headers) {
      uint64_t number = 0;
      auto read = [](const std::string& digits, uint64_t& out) {
        auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
        return error == std::errc() && end == digits.data() + digits.size();
      };
      if (key == "chunk_size")
        read(value, chunk);
      else if (read(key, number))
        addresses[number] = value;
    }
    const uint64_t size = file.local.size;
    uint64_t parts = chunk ? (size + chunk - 1) / chunk : 0;
    if (parts == 0 || parts > kParts || addresses.size() != parts ||
        addresses.begin()->first != 1 || addresses.rbegin()->first != parts)
      throw IntegrityError(name(file) + ": LFS batch: parts that do not make up the file");
    Json::Array done;
    for (auto& [number, address] : addresses) {
      uint64_t begin = (number - 1) * chunk;
      auto response = put(file, address, {}, begin, std::min(chunk, size - begin));
      std::string etag = response.header("etag");
      if (etag.empty()) throw IntegrityError(name(file) + ": a part without an ETag");
      done.push_back(Json::Object{{"partNumber", int64_t(number)}, {"etag", etag}});
    }
    post(text(field(upload, "href")),
         Json::Object{{"oid", file.sha256}, {"parts", std::move(done)}}, name(file));
  }

  void confirm(const CommitFile& file, const Json& verify) const {
    auto [href, headers] = target(file, verify);
    post(href, Json::Object{{"oid", file.sha256}, {"size", int64_t(file.local.size)}}, name(file),
         headers);
  }

  const HubClient& client_;
  const Repo& repo_;
  const std::string& revision_;
  UploadProgress& progress_;
  std::string transfer_;
};

}  // namespace

void lfs_upload(const HubClient& client, const Repo& repo, const std::string& revision,
                const std::vector<CommitFile*>& files, int workers, UploadProgress& progress) {
  SendPool hashing(workers, SIZE_MAX);
  for (auto* file : files)
    hashing.submit([file, &progress] {
      auto tell = [&] { progress.progress(file->local.path, 0, file->local.size); };
      if (file->sha256.empty())
        file->sha256 = hash_source(SourceFile(file->local), std::string(64, '0'), tell);
    });
  hashing.wait();
  for (size_t at = 0; at < files.size(); at += kBatch) {
    std::vector<CommitFile*> batch(
        files.begin() + std::ptrdiff_t(at),
        files.begin() + std::ptrdiff_t(std::min(at + kBatch, files.size())));
    LfsUpload upload(client, repo, revision, progress);
    auto items = upload.ask(batch);
    SendPool sending(workers, SIZE_MAX);
    for (auto* file : batch) {
      auto item = items.find(file->sha256);
      if (item == items.end())
        throw IntegrityError(repo.id + ": LFS batch: no answer for " + file->local.path);
      sending.submit([&upload, file, item] { upload.store(*file, item->second); });
    }
    sending.wait();
  }
}

}  // namespace pretrained::hub
