"""Trains a model: python train.py key=value ...   (python train.py --help)"""

from gptlab.commands.train import main

if __name__ == "__main__":
    main()
