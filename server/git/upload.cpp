// The server's side of `git clone` and `git fetch`, and the list of references for both directions:
// https://git-scm.com/docs/gitprotocol-http

#include "server/git/child.h"
#include "server/git/pkt_line.h"
#include "server/git/state.h"

namespace pretrained::server {
namespace {

constexpr const char* kReceiveCapabilities =
    "report-status delete-refs side-band-64k quiet atomic ofs-delta object-format=sha1 "
    "agent=pretrained-hub";

// The value of the Git-Protocol header where it is one, for GIT_PROTOCOL.
std::vector<std::pair<std::string, std::string>> protocol_environment(const std::string& protocol) {
  bool good =
      !protocol.empty() && protocol.size() <= 64 &&
      protocol.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789=:.-") == protocol.npos;
  if (!good) return {};
  return {{"GIT_PROTOCOL", protocol}};
}

GitCall upload_pack_call(const Snapshot& snapshot, const std::string& protocol,
                         const std::string& mode) {
  return {{"-c", "uploadpack.allowFilter=true", "-c", "uploadpack.allowAnySHA1InWant=false", "-c",
           "uploadpack.allowReachableSHA1InWant=false", "upload-pack", "--strict", mode, "."},
          snapshot.folder->path(),
          protocol_environment(protocol)};
}

std::string advertise_for_push(const std::vector<Ref>& refs) {
  std::string text = packet("# service=git-receive-pack\n") + kFlush;
  std::string end = std::string("\0", 1) + kReceiveCapabilities + "\n";
  if (refs.empty()) text += packet(kNoOid + " capabilities^{}" + end);
  for (auto& ref : refs) {
    text += packet(ref.target + " " + ref.name + end);
    end = "\n";
  }
  return text + kFlush;
}

}  // namespace

std::string GitStore::advertise(int64_t repo, const std::string& service,
                                const std::string& protocol) {
  if (service == "git-receive-pack") return advertise_for_push(refs(repo));
  if (service != "git-upload-pack")
    throw ArgumentError("service '" + printable(service) +
                        "': expected git-upload-pack or git-receive-pack");
  return state_->with_cache(repo, [&](const Snapshot& snapshot) {
    std::string text = git_output(upload_pack_call(snapshot, protocol, "--http-backend-info-refs"));
    bool version_2 = text.rfind("000eversion 2", 0) == 0;
    return version_2 ? text : packet("# service=git-upload-pack\n") + kFlush + text;
  });
}

void GitStore::upload_pack(int64_t repo, const std::string& protocol,
                           const std::function<size_t(char*, size_t)>& read,
                           const std::function<void(std::string_view)>& write) {
  Snapshot snapshot = state_->caches.current(repo);  // held until the last byte
  GitCall call = upload_pack_call(snapshot, protocol, "--stateless-rpc");
  call.heavy = true;
  bool answered = false;
  call.input = read;
  call.output = [&](std::string_view bytes) {
    answered = true;
    write(bytes);
  };
  GitResult result = run_git(call);
  // A refusal is part of the protocol: git has told the client, and fails afterwards.
  if (result.timed_out || (result.exit_code != 0 && !answered))
    throw Error("git upload-pack: " +
                (result.timed_out ? "took too long" : printable(result.errors, 500)));
}

}  // namespace pretrained::server
