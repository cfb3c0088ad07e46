#pragma once
// Webhooks: what happens to a repository is written down in the transaction in which it happens,
// and sent afterwards as JSON, signed, until the receiver answers 2xx. The payload has the shape of
// https://huggingface.co/docs/hub/webhooks: event {action, scope}, repo, and discussion, comment or
// updatedRefs. Headers of a delivery:
//   X-Webhook-Secret       the secret as it was set (where it was)
//   X-Webhook-Signature    "sha256=" and the HMAC-SHA256 of the body, keyed with the secret
//   X-Webhook-Delivery     a number, the same in every attempt
// Redirects are not followed. Addresses of this machine and its networks are refused when the
// connection is made, whatever their name was, unless the hub allows them.

#include <memory>
#include <string>

#include "server/repos/repos.h"
#include "server/storage/database.h"

namespace pretrained::server {

// `scope`: "repo", "repo.content", "repo.config", "discussion", "discussion.comment"; a webhook of
// "repo" or "discussion" gets what begins so. `details` are further members of the payload.
void queue_event(Transaction& transaction, const Repo& repo, const std::string& scope,
                 const std::string& action, const Json::Object& details = {});

// ArgumentError unless it is http(s), without user name and password, and at most 2,000 bytes.
void check_webhook_url(const std::string& url);

// Sends what is due, on threads of its own, until destruction. Several processes may do so on one
// database: each delivery is taken by one. 8 attempts over about 3 hours.
class Webhooks {
 public:
  struct Pace {
    int64_t poll_ms = 1000, first_retry_ms = 10'000, timeout_ms = 10'000;
    int attempts = 8;
  };
  Webhooks(Database& database, bool allow_private_targets);
  Webhooks(Database& database, bool allow_private_targets, Pace pace);
  ~Webhooks();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::server
