if __name__ == "__main__":
    directory = Path("model")
    directory.mkdir(exist_ok=True)
    features, kinds = load_iris(return_X_y=True)
    train(features, kinds, directory / "@FILE@")
    print(f"{directory / '@FILE@'} is written")
