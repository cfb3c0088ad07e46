#include <algorithm>
#include <set>

#include "server/api/changes.h"
#include "server/git/turns.h"

namespace pretrained::server {
namespace {

constexpr uint64_t kNegotiationLimit = 32 << 20, kZippedPushLimit = 64 << 20;

void set_git_headers(Response& response, const std::string& type) {
  response.headers.set("Content-Type", type);
  response.headers.set("Cache-Control", "no-cache, max-age=0, must-revalidate");
  response.headers.set("Expires", "Fri, 01 Jan 1980 00:00:00 GMT");
  response.headers.set("Pragma", "no-cache");
}

Repo require_git_repo(Call& call, bool push) {
  try {
    // Authors of pull requests push too; which references is decided one by one.
    Repo repo = require_repo(call, Role::read);
    bool may_push = role_on(call.caller, repo.access) >= Role::write ||
                    may_open_pull_request(call.caller, repo.access,
                                          call.services.repos.access_granted(repo, call.caller));
    return push && !may_push ? require_repo(call, Role::write) : repo;
  } catch (const HttpError& e) {
    challenge(call, e);
    throw;
  }
}

std::string protocol_of(const Call& call) {
  std::string protocol(call.request.headers.get("Git-Protocol"));
  return protocol == "version=2" || protocol == "version=1" ? protocol : "";
}

Response info_refs(Call& call) {
  std::string service = call.request.parameter("service").value_or("");
  if (service != "git-upload-pack" && service != "git-receive-pack")
    throw HttpError(403, "", "Only git's smart HTTP protocol is served; use a newer git");
  bool push = service == "git-receive-pack";
  Repo repo = require_git_repo(call, push);
  Response response;
  set_git_headers(response, "application/x-" + service + "-advertisement");
  response.body =
      call.services.git.advertise(repo.access.id, service, push ? "" : protocol_of(call));
  return response;
}

std::function<size_t(char*, size_t)> reader(std::shared_ptr<Body> body) {
  return [body](char* data, size_t size) { return body->read(data, size); };
}

Response upload_pack(Call& call) {
  Repo repo = require_git_repo(call, false);
  auto body = std::make_shared<StringBody>(call.request.read_body(kNegotiationLimit));
  Response response;
  set_git_headers(response, "application/x-git-upload-pack-result");
  GitStore& git = call.services.git;
  Stream stream;
  stream.produce = [&git, id = repo.access.id, protocol = protocol_of(call), body,
                    address = call.request.remote_address](Sink& sink) {
    try {
      ClientTurn turn(address);
      git.upload_pack(id, protocol, reader(body),
                      [&](std::string_view bytes) { sink.write(bytes); });
    } catch (const Busy& e) {
      throw busy(e.what(), 5);
    }
  };
  response.body = std::move(stream);
  return response;
}

// ---- push ---------------------------------------------------------------------------------------

// What one push may do, and what it did.
class Push {
 public:
  Push(Call& call, const Repo& repo) : call_(call), repo_(repo) {
    for (const auto& ref : call.services.git.refs(repo.access.id)) {
      names_.insert(ref.name);
      known_.push_back(ref.target);
    }
  }

  // A reason to refuse the update, or "".
  std::string check(GitView& view, const RefUpdate& update) {
    std::string reason = check_reference(update);
    return reason.empty() && update.to != kNoOid ? check_objects(view, update.to) : reason;
  }

  void accept(Transaction& transaction, const std::vector<RefUpdate>& updates) {
    call_.services.repos.record_push(transaction, repo_, updates,
                                     {objects_.begin(), objects_.end()});
    accepted_ = updates;
  }

  void finish() {
    if (!accepted_.empty()) call_.services.repos.after_push(call_.caller, repo_, accepted_);
  }

 private:
  std::string check_reference(const RefUpdate& update) {
    const std::string& name = update.name;
    bool pull_request = pull_request_number(name).has_value();
    if (pull_request ? !names_.contains(name)
                     : !name.starts_with("refs/heads/") && !name.starts_with("refs/tags/"))
      return "only branches, tags and open pull requests can be pushed to";
    if (!may_write_reference(call_.services, call_.caller, repo_, name))
      return "you have no write access to it";
    if (update.to == kNoOid && (pull_request || name == "refs/heads/main"))
      return "it can not be deleted";
    size_t slash = name.find('/', 5);
    if (is_commit_id(name.substr(slash + 1))) return "its name looks like a commit id";
    return "";
  }

  std::string check_objects(GitView& view, const Oid& tip) {
    std::vector<std::string> wanted;
    for (const auto& pointer : view.pointers({tip}, known_)) wanted.push_back(pointer.sha256);
    auto found = call_.services.content.objects(repo_.access.id, wanted);
    for (size_t i = 0; i < wanted.size(); ++i)
      if (!found[i])
        return "the LFS object " + wanted[i] + " was not uploaded (git lfs push --all)";
    objects_.insert(wanted.begin(), wanted.end());
    return "";
  }

  Call& call_;
  const Repo& repo_;
  std::set<std::string> names_, objects_;
  std::vector<Oid> known_;
  std::vector<RefUpdate> accepted_;
};

Response receive_pack(Call& call) {
  Repo repo = require_git_repo(call, true);
  // git sends packs as they are; only what is small enough for memory may come compressed.
  auto body = call.request.body;
  if (call.request.headers.has("Content-Encoding"))
    body = std::make_shared<StringBody>(call.request.read_body(kZippedPushLimit));
  Push push(call, repo);
  GitStore::PushCheck check;
  check.update = [&](GitView& view, const RefUpdate& update) { return push.check(view, update); };
  check.also = [&](Transaction& transaction, const std::vector<RefUpdate>& updates) {
    push.accept(transaction, updates);
  };
  Response response;
  set_git_headers(response, "application/x-git-receive-pack-result");
  ClientTurn turn(call.request.remote_address);
  response.body = call.services.git.receive_pack(repo.access.id, reader(body), check);
  push.finish();
  return response;
}

}  // namespace

std::vector<Route<ApiHandler>> git_routes() {
  std::vector<Route<ApiHandler>> routes;
  for (const std::string& prefix : kWebPatterns)
    for (std::string name : {"{name}.git", "{name}"}) {
      routes.push_back({"GET", prefix + name + "/info/refs", info_refs});
      routes.push_back({"POST", prefix + name + "/git-upload-pack", upload_pack});
      routes.push_back({"POST", prefix + name + "/git-receive-pack", receive_pack});
    }
  return routes;
}

}  // namespace pretrained::server
