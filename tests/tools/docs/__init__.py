"""The pages' examples, executed: ``settings`` says where, ``running`` how."""
