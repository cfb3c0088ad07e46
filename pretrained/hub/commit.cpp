#include "pretrained/hub/commit.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <thread>

#include "pretrained/hub/errors.h"
#include "pretrained/hub/preupload.h"

namespace pretrained::hub {
namespace {

constexpr int kAttempts = 6, kLongestWait = 60;
constexpr size_t kHistory = 50;  // how far down our own commit is looked for
constexpr size_t kPathsPerCall = 500;

std::string line(const char* key, Json::Object value) {
  return Json(Json::Object{{"key", key}, {"value", std::move(value)}}).dump(0) + "\n";
}

std::string text_field(const Json& json, const char* key, const std::string& what) {
  const Json* field = json.find(key);
  const auto* text = field ? field->get_if<std::string>() : nullptr;
  if (!text) throw IntegrityError(what + ": the answer has no " + key);
  return *text;
}

class Sender {
 public:
  Sender(const HubClient& client, const Repo& repo, const std::string& revision,
         const CommitContent& content, UploadProgress& progress)
      : client_(client),
        repo_(repo),
        revision_(revision),
        content_(content),
        progress_(progress),
        what_(repo.id + "@" + revision + ": commit") {}

  CommitAnswer run() {
    for (int attempt = 1;; ++attempt) {
      std::optional<HttpResponse> response;
      try {
        response = send();
        if (response->status == 200) return read(*response);
        bool may_be_done = may_have_happened(response->status);
        // Curl and proxies repeat by themselves what went out on a connection that had died.
        if (response->status == 409 || response->status == 412)
          if (auto ours = find_ours()) return *ours;
        if (!may_be_done || attempt == kAttempts) throw_for_status(*response, what_);
      } catch (const OfflineError&) {
        throw;
      } catch (const NetworkError&) {
        if (attempt == kAttempts) throw;
      }
      wait(attempt, response);
      if (auto ours = find_ours()) return *ours;
    }
  }

 private:
  static bool may_have_happened(int status) {
    return status == 408 || status == 429 || (status >= 500 && status != 501);
  }

  HttpResponse send() {
    CommitBody body(content_);
    body.on_file = [&](const LocalFile& file) {
      progress_.progress(file.path, file.size, file.size);
    };
    HttpRequest request{.method = "POST",
                        .url = client_.api_url(repo_) + "/commit/" + url_encode(revision_),
                        .headers = {{"Content-Type", "application/x-ndjson"}}};
    request.read_body = [&](uint64_t offset, char* buffer, size_t size) {
      return body.read(offset, buffer, size);
    };
    request.body_size = body.size();
    request.retries = 0;
    auto response = client_.http().send(request);
    progress_.sent(body.size());
    return response;
  }

  CommitAnswer read(const HttpResponse& response) {
    Json json = Json::parse(response.body, what_);
    CommitAnswer answer{text_field(json, "commitOid", what_), text_field(json, "commitUrl", what_)};
    if (!is_commit_hash(answer.oid)) throw IntegrityError(what_ + ": the answer names no commit");
    return answer;
  }

  void wait(int attempt, const std::optional<HttpResponse>& response) {
    int seconds = std::min(8, 1 << (attempt - 1));
    if (response)
      if (int asked = std::atoi(response->header("retry-after").c_str()); asked > 0)
        seconds = asked;
    if (seconds > kLongestWait) throw_for_status(*response, what_);
    progress_.notice("the commit was not answered; looking again in " + std::to_string(seconds) +
                     " s");
    std::this_thread::sleep_for(std::chrono::seconds(seconds));
  }

  // Our commit in the history, where the hub made it and the answer did not arrive.
  std::optional<CommitAnswer> find_ours() {
    try {
      auto history = client_.list_commits(repo_, revision_, kHistory);
      for (size_t i = 0; i < history.size(); ++i) {
        if (history[i].oid == content_.parent) break;
        bool on_parent = i + 1 < history.size() ? history[i + 1].oid == content_.parent
                                                : content_.parent.empty();
        if (on_parent && history[i].title == content_.summary && has_files(history[i].oid))
          return CommitAnswer{history[i].oid, client_.web_url(repo_) + "/commit/" + history[i].oid};
      }
    } catch (const NetworkError&) {
    } catch (const RevisionNotFound&) {  // still an empty repository
    }
    return std::nullopt;
  }

  bool has_files(const std::string& commit) {
    std::map<std::string, const CommitFile*> files;
    std::vector<std::string> paths = content_.deleted;
    for (auto& file : content_.files) {
      files[file.local.path] = &file;
      paths.push_back(file.local.path);
    }
    size_t found = 0;
    for (size_t at = 0; at < paths.size(); at += kPathsPerCall) {
      auto begin = paths.begin() + std::ptrdiff_t(at);
      auto end = paths.begin() + std::ptrdiff_t(std::min(at + kPathsPerCall, paths.size()));
      for (auto& remote : client_.paths_info(repo_, commit, {begin, end})) {
        auto file = files.find(remote.path);
        if (file == files.end() || !is_same(*file->second, remote)) return false;
        ++found;
      }
    }
    return found == files.size();
  }

  static bool is_same(const CommitFile& file, const RemoteFile& remote) {
    return remote.etag() ==
           (file.is_large ? file.sha256 : hash_source(SourceFile(file.local), remote.etag()));
  }

  const HubClient& client_;
  const Repo& repo_;
  const std::string& revision_;
  const CommitContent& content_;
  UploadProgress& progress_;
  const std::string what_;
};

}  // namespace

CommitBody::CommitBody(const CommitContent& content) {
  Json::Object header{{"summary", content.summary}, {"description", content.description}};
  if (!content.parent.empty()) header["parentCommit"] = content.parent;
  add_text(line("header", std::move(header)));
  for (auto& file : content.files) {
    if (file.is_large)
      add_text(line("lfsFile", {{"path", file.local.path},
                                {"algo", "sha256"},
                                {"oid", file.sha256},
                                {"size", int64_t(file.local.size)}}));
    else
      add_file(file.local);
  }
  for (auto& path : content.deleted) add_text(line("deletedFile", {{"path", path}}));
}

void CommitBody::add_text(std::string text) {
  parts_.push_back({.begin = size_, .size = text.size(), .text = std::move(text)});
  size_ += parts_.back().size;
}

void CommitBody::add_file(const LocalFile& file) {
  add_text("{\"key\": \"file\", \"value\": {\"path\": " + Json(file.path).dump(0) +
           ", \"encoding\": \"base64\", \"content\": \"");
  parts_.push_back({.begin = size_, .size = (file.size + 2) / 3 * 4, .file = &file});
  size_ += parts_.back().size;
  add_text("\"}}\n");
}

std::string_view CommitBody::bytes_of(const Part& part) {
  if (!part.file) return part.text;
  if (loaded_ != part.file) {
    encoded_ = base64(SourceFile(*part.file).read_whole());
    loaded_ = part.file;
  }
  return encoded_;
}

size_t CommitBody::read(uint64_t offset, char* buffer, size_t size) {
  size_t filled = 0;
  auto part = std::upper_bound(parts_.begin(), parts_.end(), offset,
                               [](uint64_t at, const Part& p) { return at < p.begin + p.size; });
  for (; part != parts_.end() && filled < size; ++part) {
    auto rest = bytes_of(*part).substr(offset + filled - part->begin);
    size_t taken = std::min(rest.size(), size - filled);
    std::memcpy(buffer + filled, rest.data(), taken);
    filled += taken;
    if (part->file && taken == rest.size() && on_file) on_file(*part->file);
    if (taken < rest.size()) break;
  }
  return filled;
}

CommitAnswer send_commit(const HubClient& client, const Repo& repo, const std::string& revision,
                         const CommitContent& content, UploadProgress& progress) {
  return Sender(client, repo, revision, content, progress).run();
}

}  // namespace pretrained::hub
