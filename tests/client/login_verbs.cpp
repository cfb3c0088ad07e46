// Tokens and logging in as verbs.
#include <iostream>

#include "hub_tool.h"
#include "pretrained/hub/login.h"
#include "pretrained/hub/settings.h"
#include "pretrained/hub/tokens.h"

using namespace pretrained;

namespace {

Json list_tokens(const Call&) {
  Json::Array list;
  for (auto& token : hub::list_tokens())
    list.push_back(Json::Object{{"name", token.name},
                                {"token", token.token},
                                {"active", token.active},
                                {"refresh_token", token.refresh_token},
                                {"expires_at", token.expires_at}});
  return list;
}

// The code goes to standard output at once, as a line of JSON, for who approves it.
Json log_in(const Call& call) {
  Login options{.token = call.option("token", "")};
  options.on_code = [](const DeviceCode& code) {
    std::cout << Json(Json::Object{{"user_code", code.user_code},
                                   {"uri", code.verification_uri},
                                   {"complete", code.verification_uri_complete},
                                   {"expires_in", code.expires_in}})
                     .dump(0)
              << std::endl;
  };
  auto result = login(options);
  return Json::Object{
      {"user", result.user}, {"token_name", result.token_name}, {"stored_in", result.stored_in}};
}

}  // namespace

Verbs login_verbs() {
  return {
      {"login", log_in},
      {"list_tokens", list_tokens},
      {"find_token",
       [](const Call&) { return Json::Array{hub::find_token(), hub::token_source()}; }},
      {"current_token",
       [](const Call&) { return Json(hub::current_token(hub::default_endpoint())); }},
      {"activate_token",
       [](const Call& c) { return hub::activate_token(c.words.at(0)), Json(nullptr); }},
      {"remove_token",
       [](const Call& c) { return Json(hub::remove_token(c.words.empty() ? "" : c.words[0])); }},
  };
}
