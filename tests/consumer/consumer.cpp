#include <pretrained/model/auto.h>
#include <torch/torch.h>

#include <iostream>

#include "tiny_model.h"

// Saves a model of its own with its code, and loads it back through the installed headers and
// compiler, and once more isolated.
int main(int, char** argv) {
  TinyModel model(TinyConfig{.hidden_size = 5});
  TinyConfig::register_for_auto_class();
  TinyModel::register_for_auto_class();
  model.save_pretrained(argv[1]);
  auto loaded = pretrained::AutoModel::from_pretrained(argv[1], {.trust_remote_code = true});
  auto x = torch::ones({2, 3});
  auto isolated = pretrained::AutoModel::from_pretrained(
      argv[1], {.isolation = pretrained::Isolation::process});
  bool equal = torch::equal(model(x), loaded(x)["output"]) &&
               torch::allclose(model(x), isolated(x)["output"]);
  std::cout << (equal ? "equal" : "different") << "\n";
  return equal ? 0 : 1;
}
