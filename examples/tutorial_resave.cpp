// Loads a folder as a class registered here and saves it, with its code, to another. Usage:
// tutorial_resave FROM TO
#include <pretrained/pretrained.h>

#include <iostream>

#include "resnet_model/modeling_resnet.h"

int main(int argc, char** argv) try {
  if (argc != 3) throw pretrained::ArgumentError("usage: tutorial_resave FROM TO");
  ResnetConfig::register_for_auto_class();
  ResnetModel::register_for_auto_class("AutoModel");
  ResnetModelForImageClassification::register_for_auto_class("AutoModelForImageClassification");
  ResnetModelForImageClassification::from_pretrained(argv[1])->save_pretrained(argv[2]);
  return 0;
} catch (const pretrained::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
