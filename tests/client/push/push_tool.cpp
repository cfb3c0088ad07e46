// Pushes a model of this folder. Usage: push_tool plain|private|shards|changed|secret|config REPO
#include <pretrained/pretrained.h>
#include <torch/torch.h>

#include <iostream>

#include "secret.h"
#include "stateful.h"

int main(int, char** argv) try {
  std::string what = argv[1], repo = argv[2];
  StatefulConfig::register_for_auto_class();
  StatefulModel::register_for_auto_class("AutoModel");
  SecretConfig::register_for_auto_class();
  SecretModel::register_for_auto_class("AutoModel");
  pretrained::PushToHub options{.private_ = what == "private",
                                .example = {{"tensor", torch::ones({2, 4})}},
                                .notice = [](auto& line) { std::cerr << line << "\n"; }};
  pretrained::PushResult result;
  if (what == "config") {
    result = StatefulConfig{.hidden_size = 5}.push_to_hub(repo, options);
  } else if (what == "secret") {
    SecretModel model(SecretConfig{});
    result = model.push_to_hub(repo, options);
  } else {
    StatefulModel model(StatefulConfig{.hidden_size = what == "shards" ? 1 << 20 : 4});
    if (what == "shards") {
      options.max_shard_size = "1MB";
      options.example = {};
    }
    if (what == "changed") added = 1;
    model.train();
    result = model.push_to_hub(repo, options);
    if (!model.is_training()) throw pretrained::Error("the model is not as it was");
  }
  std::cout << result.oid << "\n" << result.commit_url << "\n";
  return 0;
} catch (const pretrained::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
