#pragma once
// What the calls of client.h share.

#include <functional>
#include <string>

#include "pretrained/hub/client.h"

namespace pretrained::hub {

// The JSON of a success; null for an empty one. Any other answer is thrown.
Json answer_of(const HttpResponse& response, const std::string& what);
HttpRequest json_request(const std::string& method, const std::string& url, const Json& body);

// Pages of a list, along `Link: rel="next"`; `take` returns whether it wants more.
void for_each_page(const HubClient& client, const std::string& url, const std::string& what,
                   const std::function<bool(const Json&)>& take);

// "org/name", "org/name@dev": what messages begin with.
std::string shown(const Repo& repo, const std::string& revision = "");

// Runs a call about a repository. Where that, or the revision, does not exist the message names
// what is spelt nearly so.
void with_suggestions(const HubClient& client, const Repo& repo, const std::string& revision,
                      const std::function<void()>& call);

}  // namespace pretrained::hub
